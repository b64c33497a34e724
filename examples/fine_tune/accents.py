"""Makes the tagger that examples/fine_tune.rs trains further, and checks what that wrote.

    pip install torch==2.15.0 safetensors==0.8.0 numpy==2.4.6
    python examples/fine_tune/accents.py                      # makes accents.safetensors and accents.json beside this file
    python examples/fine_tune/accents.py --check FOLDER       # checks the files that the example wrote to FOLDER

The tagger puts the accents back on a text that has lost them, a mark for each character. It is made for French, from the
message catalogues of Django (examples/data/SOURCES.md has their licence).
"""

import argparse
import csv
import json
import sys
import unicodedata
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

HERE = Path(__file__).resolve().parent
TABLE = HERE.parent / "data" / "django_en_fr_de_es.tsv"
# Names of Unicode's combining characters.
MARKS = {
    "none": "",
    "acute": "\u0301",
    "grave": "\u0300",
    "circumflex": "\u0302",
    "diaeresis": "\u0308",
    "tilde": "\u0303",
    "cedilla": "\u0327",
}


class Tagger(nn.Module):
    def __init__(self, characters, marks):
        super().__init__()
        self.table = nn.Embedding(characters, 16)
        self.rnn = nn.LSTM(16, 32, num_layers=2, bidirectional=True)
        self.head = nn.Linear(64, marks)

    def forward(self, tokens):
        return self.head(self.rnn(self.table(tokens))[0])


def column(language):
    with open(TABLE, encoding="utf-8", newline="") as file:
        return [row[language] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def letters():
    """Every accented letter of Latin-1: the letter below, and the mark."""
    found = {}
    for code in range(0xC0, 0x100):
        parts = unicodedata.normalize("NFD", chr(code))
        marks = [name for name, mark in MARKS.items() if mark and parts[1:] == mark]
        if marks:
            found[chr(code)] = [parts[0], marks[0]]
    return found


def encode(text, vocabulary):
    """The tokens of a text without its marks, and the marks. Characters that the table lacks are token 0."""
    place = {character: number for number, character in enumerate(vocabulary["characters"])}
    tokens, marks = [], []
    for character in text:
        base, mark = vocabulary["letters"].get(character, [character, "none"])
        tokens.append(place.get(base, 0))
        marks.append(vocabulary["marks"].index(mark))
    return torch.tensor(tokens), torch.tensor(marks)


def held_out(rows):
    """Every fifth row, as in the example."""
    return rows[4::5]


def accuracy(model, rows, vocabulary):
    """The shares of all characters and of the accented ones whose mark is right."""
    right, count, accents, accented = 0, 0, 0, 0
    with torch.no_grad():
        for text in rows:
            tokens, marks = encode(text, vocabulary)
            hits = model(tokens[:, None])[:, 0].argmax(-1) == marks
            right, count = right + int(hits.sum()), count + len(marks)
            accents, accented = accents + int(hits[marks != 0].sum()), accented + int((marks != 0).sum())
    return right / count, accents / accented


def make():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    french = column("fr")
    bases = letters()
    characters = sorted({bases.get(character, [character])[0] for text in french for character in text})
    # The first character stands for every other.
    vocabulary = {"characters": ["\ufffd", *characters], "marks": list(MARKS), "letters": bases}
    model = Tagger(len(vocabulary["characters"]), len(MARKS))
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    encoded = [encode(text, vocabulary) for text in french]
    batch = 16
    epochs = 60
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * (1 - epoch / epochs)
        total = 0.0
        for rows in torch.randperm(len(encoded)).split(batch):
            tokens = nn.utils.rnn.pad_sequence([encoded[row][0] for row in rows])
            marks = nn.utils.rnn.pad_sequence([encoded[row][1] for row in rows], padding_value=-1)
            logits = model(tokens)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), marks.flatten(), ignore_index=-1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / (len(encoded) / batch):.4f}")
    model.eval()
    save_file(model.state_dict(), HERE / "accents.safetensors")
    text = json.dumps(vocabulary, ensure_ascii=False, indent=1)
    (HERE / "accents.json").write_text(text + "\n", encoding="utf-8")
    print("French  ", *accuracy(model, french, vocabulary))
    print("Spanish ", *accuracy(model, held_out(column("es")), vocabulary))


def check(folder):
    vocabulary = json.loads((HERE / "accents.json").read_text(encoding="utf-8"))
    said = json.loads((folder / "fine_tuned.json").read_text(encoding="utf-8"))
    before, after = load_file(HERE / "accents.safetensors"), load_file(folder / "fine_tuned.safetensors")
    model = Tagger(len(vocabulary["characters"]), len(vocabulary["marks"]))
    model.load_state_dict(after, strict=True)
    model.eval()
    frozen = [name for name in before if torch.equal(before[name], after[name])]
    if sorted(frozen) != sorted(said["frozen"]):
        sys.exit(f"expected that only {said['frozen']} are as before, found {frozen}")
    found = accuracy(model, held_out(column("es")), vocabulary)
    for name, here, there in zip(["characters", "accented"], found, said["after"]):
        print(f"{name}: {here:.6f} in PyTorch, {there:.6f} in the example")
        # One character may lie on the border between two marks.
        if abs(here - there) > 5e-4:
            sys.exit(f"{name}: the shares differ")
    print(f"equal, and {len(frozen)} frozen tensors are as they were")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", type=Path)
    options = parser.parse_args()
    check(options.check) if options.check else make()
