"""Files that leave a study: recipes and trained models, read and written."""
