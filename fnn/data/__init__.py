"""What a user has, as arrays on the device."""
