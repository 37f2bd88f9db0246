"""A picture of many molecules."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.molecule_set import canonical_smiles


__all__ = ["draw_molecule_grid"]

_CELL_PIXELS = 200
_FRAME = (200, 200, 200)
_TEXT = (150, 30, 30)


def draw_molecule_grid(molecules: Sequence[str | None], path: Path, columns: int = 6) -> None:
    """Draw molecules in rows as a PNG; what is no valid molecule is a cell with the word "invalid".

    Unpaired electrons are drawn, not refused.

    Args:
        molecules: SMILES; None or an empty text for what is no molecule.
        path: File to write.
        columns: Molecules in a row, at least 1.

    Raises:
        DataError: If there is no molecule, or no column.
    """
    if not len(molecules) or columns < 1:
        raise DataError(
            f"molecules and columns must be at least one; got {len(molecules)} molecules, columns={columns}."
        )
    columns = min(columns, len(molecules))
    rows = -(-len(molecules) // columns)
    picture = Image.new("RGB", (columns * _CELL_PIXELS, rows * _CELL_PIXELS), "white")
    for place, smiles in enumerate(molecules):
        row, column = divmod(place, columns)
        picture.paste(_cell(smiles), (column * _CELL_PIXELS, row * _CELL_PIXELS))
    picture.save(path, format="PNG")


def _cell(smiles: str | None) -> Image.Image:
    canonical = canonical_smiles(smiles)
    cell = Image.new("RGB", (_CELL_PIXELS, _CELL_PIXELS), "white")
    if canonical is not None:
        drawing = rdMolDraw2D.MolDraw2DCairo(_CELL_PIXELS, _CELL_PIXELS)
        # Small molecules shall not fill the cell with two atoms.
        drawing.drawOptions().fixedBondLength = 30  # type: ignore[assignment]
        rdMolDraw2D.PrepareAndDrawMolecule(drawing, Chem.MolFromSmiles(canonical))
        drawing.FinishDrawing()
        cell.paste(Image.open(io.BytesIO(drawing.GetDrawingText())).convert("RGB"))
    pen = ImageDraw.Draw(cell)
    if canonical is None:
        middle = (_CELL_PIXELS // 2, _CELL_PIXELS // 2)
        pen.text(middle, "invalid", fill=_TEXT, font=ImageFont.load_default(24), anchor="mm")
    pen.rectangle((0, 0, _CELL_PIXELS - 1, _CELL_PIXELS - 1), outline=_FRAME)
    return cell
