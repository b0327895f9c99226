"""How programs written for hosted services are pointed at a server of this machine, with not a letter of them changed."""
