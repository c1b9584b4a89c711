"""Digests of many bytes, as fast as the machine gives them. Nothing here waits or touches a file."""
