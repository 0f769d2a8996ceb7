"""Where a task's microseconds go. Functions are wrapped while a profile runs, and at no other time."""
