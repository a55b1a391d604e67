"""What every run shares before any data is read: who may write where."""
