"""Speed, as fractions of what this machine could do at best."""
