"""Telephone numbers as people write them, as E.164, and masked. Pure.

China's numbering plan as far as a check needs it: mobiles are 11 digits from 13 to 19, area codes
are 010, 02x or three digits from 03 to 09, and local numbers have 7 or 8. Other countries' numbers
are taken with their + and by length alone (ITU-T E.164: 15 digits at most).
"""

from __future__ import annotations

import re
import unicodedata

CHINA = "+86"
_NOISE = re.compile(r"[\s().\-\u2010-\u2015/]+")
_DIGITS = re.compile(r"\+?[0-9]+")
_MOBILE_DIGITS = 11
_MOBILE = re.compile(r"1[3-9]\d{9}")
_MOBILE_AFTER_CODE = re.compile(r"861[3-9]\d{9}")  # the + left out
_LOCAL = re.compile(r"[2-8]\d{6,7}")
_LANDLINE = re.compile(r"0(10|2\d|[3-9]\d{2})([2-8]\d{6,7})")
_ABROAD = re.compile(r"\+(?!86)[1-9]\d{7,14}")
_SHOWN_AHEAD, _SHOWN_BEHIND = 3, 2


def normalised(text: str) -> str:
    """E.164. Raises ValueError that says what is wrong, without the number."""
    word = _NOISE.sub("", unicodedata.normalize("NFKC", text))
    if not word:
        raise ValueError("expected a telephone number")
    if not _DIGITS.fullmatch(word):
        raise ValueError("expected digits alone; no extension, no second number")
    if word.startswith("00"):
        word = f"+{word[2:]}"
    if word.startswith("+") and not word.startswith(CHINA):
        if not _ABROAD.fullmatch(word):
            raise ValueError("expected 8 to 15 digits after the +")
        return word
    return CHINA + _chinese(word)


def _chinese(word: str) -> str:
    """The national number, without the 0 before an area code."""
    if _MOBILE_AFTER_CODE.fullmatch(word):
        return word[-_MOBILE_DIGITS:]
    bare = word.removeprefix(CHINA)
    if _MOBILE.fullmatch(bare):
        return bare
    if _LANDLINE.fullmatch(bare if bare == word else f"0{bare.removeprefix('0')}"):
        return bare.removeprefix("0")
    if _LOCAL.fullmatch(bare):
        raise ValueError("expected the area code before a landline, such as 0755")
    raise ValueError(
        "expected a mobile of 11 digits, a landline with its area code, or + and the country"
    )


def masked(number: str) -> str:
    """Enough of a number to know it again, too little to call it."""
    digits = number.removeprefix("+")
    country = CHINA if number.startswith(CHINA) else "+"
    local = digits.removeprefix("86") if country == CHINA else digits
    hidden = max(len(local) - _SHOWN_AHEAD - _SHOWN_BEHIND, 0)
    return f"{country}{local[:_SHOWN_AHEAD]}{'*' * hidden}{local[-_SHOWN_BEHIND:]}"


def masked_name(name: str) -> str:
    """The first letter of a name."""
    return f"{name[:1]}**" if name else ""
