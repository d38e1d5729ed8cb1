"""What lies in a server's state directory, seen from outside."""


def names_in(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []
