"""The whole way as resumable steps."""
