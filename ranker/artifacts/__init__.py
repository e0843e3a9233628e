"""What is stored on disk between the stages: checkpoint, bundle, manifest, installation record."""
