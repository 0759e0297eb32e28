"""Token shards as the files that other people's trainers read."""
