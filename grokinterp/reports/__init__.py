"""What comes out: words, page and notebook views."""
