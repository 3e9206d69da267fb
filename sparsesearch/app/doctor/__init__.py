"""Check the surroundings of studies: installation, database, Ray, MLflow, device, disks, clock, permissions."""
