"""The commands of `tvr`: options, one call, print."""
