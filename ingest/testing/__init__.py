"""Servers for the tests of programs that use a bucket: they misbehave on order."""
