"""Where workers come from. Today: this host."""
