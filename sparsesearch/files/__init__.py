"""Files: documents that people write, durable files that this program writes, and folders shipped with it."""
