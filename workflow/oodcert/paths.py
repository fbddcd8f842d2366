"""Where the files of the repository are: no other module counts folders upwards."""

from pathlib import Path

LIBRARY = Path(__file__).parent
WORKFLOW = LIBRARY.parent
ROOT = WORKFLOW.parent
SCHEMAS = WORKFLOW / "schemas"
TRAINING = LIBRARY / "training"  # a file a trained component
DATA_TABLES = ROOT / "data"  # registry, released weights, class overlaps, splits
PAPER = ROOT / "paper"  # claims and reported values
