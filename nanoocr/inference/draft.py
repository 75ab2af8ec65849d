"""Drafts: what the glyph head sees on a strip, as a first reading that the language model then checks.

The head on SAM's patches names the character of each half patch, at once for the whole strip. In reading
order, with blanks guessed from the distances, that is a draft. The engine lets the model judge all of it in
one pass, keeps the beginning on which both agree and the model's own next token, and goes on with the rest of
the draft from there (speculative decoding, arXiv 2211.17192, in its greedy form). The model has the last word
on every token, so a bad draft costs time and never changes the text.

Letters: V views, H W grid in patches, K classes, C columns of half patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from torch import Tensor

from nanoocr.alphabet import CHARACTERS
from nanoocr.inference.place import NARROW, widths

EMPTY_ODDS = 4.0  # training weighs an empty slot a fifth, so the head says "nothing" too seldom
PRESENT = 0.35  # characters that a column must hold at least by the head's probabilities
SHARED = 0.7  # the same for two columns together, where a centre lies on their border
TWICE = 1.5  # two columns that name the same narrow letter hold two of it from this sum on
BLANK = 0.45  # letters this much further apart than usual, in widths of a letter, have a blank between them
WINDOW = 6  # after this many agreeing tokens, what stands before them no longer matters to the alignment
AHEAD = 6  # most tokens of a draft that are skipped at a time
BEHIND = 12  # most tokens in a row that a draft may lack
PATIENCE = 1  # after so many passes in a row without an accepted token, few tokens are proposed at a time
LITTLE = 4  # tokens, then
SURE = 0.8  # how sure the model must be of a token after a mistake of the draft to mend the draft by it


def draft_texts(logits_VHWSK: Tensor) -> list[str]:
    """The draft of each view of one line, from the head's logits."""
    chances = logits_VHWSK.float().softmax(-1).flatten(2, 3)  # (V, H, C, K)
    chances[..., 0] *= EMPTY_ODDS
    # The empty class is given its true weight back, and then the classes sum to one again.
    chances /= chances.sum(-1, keepdim=True)
    expected_VCK = chances[..., 1:].sum(1)  # how many of each character a column holds
    shares, classes = expected_VCK.max(-1)
    # A letter on a border gives half its probability to each side, so only the sum tells which it is.
    _, both = (expected_VCK[:, 1:] + expected_VCK[:, :-1]).max(-1)  # best score of two neighbours together
    mass = expected_VCK.sum(-1)
    numbers = (tensor.tolist() for tensor in (mass, shares, classes, both))
    return [with_blanks(letters_of(*view)) for view in zip(*numbers)]


def letters_of(
    mass: list[float], shares: list[float], classes: list[int], both: list[int]
) -> list[tuple[float, str]]:
    """(column, character) from left to right; a centre on a border that both columns name counts once."""
    found, column, last = [], 0, len(mass) - 1
    while column <= last:
        char = CHARACTERS[classes[column]]
        more = column < last
        if mass[column] > PRESENT:
            # Two neighbouring columns that name the same letter hold one that lies on their border. Only
            # narrow letters are slim enough to be two of them, as in "ll".
            twin = more and mass[column + 1] > PRESENT and classes[column + 1] == classes[column]
            if twin and (char not in NARROW or shares[column] + shares[column + 1] < TWICE):
                found.append((column + 0.5, char))
                column += 2
                continue
            found.append((float(column), char))
        # Neither column holds enough alone: the head has shared one letter between the two.
        elif more and mass[column + 1] <= PRESENT and mass[column] + mass[column + 1] > SHARED:
            found.append((column + 0.5, CHARACTERS[both[column]]))
            column += 1
        column += 1
    return found


def with_blanks(letters: Sequence[tuple[float, str]]) -> str:
    """The characters as text: a blank wherever two stand further apart than their widths explain."""
    if len(letters) < 2:
        return "".join(char for _, char in letters)
    wide = widths("".join(char for _, char in letters))
    steps = [b - a for (a, _), (b, _) in pairwise(letters)]
    apart = [(a + b) / 2 for a, b in pairwise(wide)]
    # The few steps that hold a blank do not move the median.
    unit = median(step / width for step, width in zip(steps, apart))
    text = letters[0][1]
    for (_, char), step, width in zip(letters[1:], steps, apart):
        text += " " * (step > (width + BLANK) * unit) + char
    return text


@dataclass
class Draft:
    """What is left of a row's draft, and the tokens since the last place where both agreed for long."""

    tokens: list[int]  # the draft from that place on
    said: list[int] = field(default_factory=list)  # what the model has said since that place
    at: int = 0  # tokens[at:] are proposed next
    failures: int = 0  # passes in a row that have accepted nothing

    def proposal(self, most: int) -> list[int]:
        """The next tokens of the draft, at most `most`, for the model to judge."""
        # A draft that has failed mostly goes on failing, and a rejected token costs as much as a good one.
        most = min(most, LITTLE) if self.failures >= PATIENCE else most
        return self.tokens[self.at : self.at + max(0, most)]

    def judged(self, proposed: list[int], picks: list[int], sure: list[float], accepted: int) -> None:
        """Go on behind the model's own token, `picks[accepted]`.

        `picks[i]` is what it says in place of proposed[i], with probability `sure[i]`.
        """
        self.failures = self.failures + 1 if proposed and not accepted else 0
        here = [*self.tokens[: self.at], *proposed[: accepted + 1]]
        # What lies behind the proposal was not judged and stays as it is.
        rest = self.tokens[self.at + len(proposed) :]
        self.tokens = [*here, *amended(proposed, picks, sure, accepted + 1), *rest]
        self.said += picks[: accepted + 1]
        # Long agreement settles the place, so what stands before it is forgotten and the table stays small.
        if accepted >= WINDOW:
            self.tokens, self.said = self.tokens[self.at + accepted :], self.said[-1:]
        self.at = behind(self.said, self.tokens)


def amended(proposed: list[int], picks: list[int], sure: list[float], start: int) -> list[int]:
    """proposed[start:] with what the model, which has read the draft up to each place, would say there."""
    out, place = [], start
    while place < len(proposed):
        token, pick = proposed[place], picks[place]
        # The draft has a token too many where the model wants the one that follows.
        following = proposed[place + 1] if place + 1 < len(proposed) else None
        # Behind a mistake the model has read a wrong text, so its word counts only where it is sure.
        if token != pick and sure[place] < SURE:
            pick = token
        out.append(pick)
        if pick == BLANK_TOKEN != token:
            out.append(token)  # a blank that the draft lacks
        place += 2 if token != pick == following else 1  # a token too many
    return out


BLANK_TOKEN = 32  # " " in a vocabulary whose first 256 entries are the bytes; in others it has no effect


def behind(said: Sequence[int], tokens: Sequence[int]) -> int:
    """The place in `tokens` up to which they are the likeliest form of `said`, by edit distance."""
    # A draft is never more than a few tokens ahead and seldom far behind: of the table a band is enough.
    width = min(len(tokens), len(said) + AHEAD)
    costs, far = list(range(width + 1)), len(said) + width
    for number, token in enumerate(said, 1):
        first, last = max(1, min(number - BEHIND, width)), min(width, number + AHEAD)
        row = [far] * (width + 1)
        left = row[first - 1] = number if first == 1 else far
        for place in range(first, last + 1):
            exchanged = costs[place - 1] + (tokens[place - 1] != token)
            above = costs[place]
            left = min(left, above) + 1
            row[place] = left = exchanged if exchanged < left else left
        costs = row
    # The draft goes on behind what was said, so its best end may be any column of the last row.
    least = min(costs)
    best = [place for place, cost in enumerate(costs) if cost == least]
    # Of places that explain it equally well: the one whose last token is the one just said, else as many
    # tokens as were said, but one fewer behind a blank, which drafts lack more often than they mistake it.
    same = [place for place in best if place and tokens[place - 1] == said[-1]]
    wanted = len(said) - (said[-1] == BLANK_TOKEN)
    return min(same or best, key=lambda place: abs(place - wanted))


def agreeing(proposed: Sequence[int], picks: Sequence[int]) -> int:
    """How many tokens at the beginning of a proposal are those that the model says."""
    return next((i for i, pair in enumerate(zip(proposed, picks)) if pair[0] != pair[1]), len(proposed))
