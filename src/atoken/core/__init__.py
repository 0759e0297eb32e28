"""What every room stands on, and no network: errors, text for people, files."""
