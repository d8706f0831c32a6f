"""Messages on the command line."""

LONGEST_MESSAGE = 1000  # characters


def one_line(message: object) -> str:
    """
    :param message: what is wrong
    :return: it in one line that a terminal can show, without the middle of what is too long to be read
    """
    text = " ".join(str(message).split())
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} [...] {text[-half:]}"
