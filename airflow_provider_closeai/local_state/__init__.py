"""What outlives a process: this user's private folder on this host, its locks, and texts in it. Internal."""
