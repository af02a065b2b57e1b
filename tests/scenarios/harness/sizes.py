"""How large a packet may be that passes a tunnel whole."""


def inside(path, outer=4):
    """Bytes of inner packet that AES-GCM takes through a path: outer IP header, ESP header 8, IV 8 and
    ICV 16 around whole words, whose last two bytes are the trailer."""
    return (path - (20 if outer == 4 else 40) - 32) // 4 * 4 - 2
