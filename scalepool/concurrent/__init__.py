"""Drop-ins for the standard library's ``concurrent`` package."""
