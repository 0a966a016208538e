"""What may befall the service, done to it on purpose. Each script prints what it found."""
