"""Where blobs lie in the storage."""


def blob_path(sha256: str) -> str:
    """`blobs/sha256/ab/cd/<digest>`."""
    return f"blobs/sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"
