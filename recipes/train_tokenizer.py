"""Train a tokenizer on a corpus.

    python recipes/train_tokenizer.py OUT_FOLDER [--recipe RECIPE] [--vocab-size N] [section.key=value ...]

The corpus is the train split of RECIPE (default: nano, the embedded planets). The 13b presets want 54,272 tokens.
"""

import argparse
import sys
from pathlib import Path

from data_scripts.derived.embedded_planets import build_embedded_planets
from modeling_astrobio.training.checkpoints import write_whole
from modeling_astrobio.training.errors import RunFolderError, UserError
from modeling_astrobio.training.llm_data import corpus_texts, load_splits
from modeling_astrobio.training.llm_model import build_tokenizer
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.recipe import load_recipe


HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_folder", type=Path, help="new folder for the tokenizer")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the recipe")
    parser.add_argument("--recipe", default="nano", help="name in recipes/llm, or a YAML file")
    parser.add_argument("--vocab-size", type=int, help="number of tokens at most (default: the recipe's preset)")
    parsed = parser.parse_intermixed_args(arguments)
    overrides = list(parsed.overrides)
    if parsed.vocab_size is not None:
        overrides.append(f"model.config.vocab_size={parsed.vocab_size}")
    try:
        if parsed.out_folder.exists():
            raise RunFolderError(
                f"OUT_FOLDER must be new; got {parsed.out_folder}, which exists. Choose another name."
            )
        recipe = load_recipe(LLMRecipe, parsed.recipe, overrides, HERE / "llm")
        splits = load_splits(recipe.data, build_embedded_planets)
        tokenizer = build_tokenizer(recipe, corpus_texts(splits["train"], recipe.data))
        with write_whole(parsed.out_folder.absolute()) as folder:
            tokenizer.save_pretrained(folder)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{len(tokenizer)} tokens in {parsed.out_folder}; load it with AutoTokenizer.from_pretrained")
    return 0


if __name__ == "__main__":
    sys.exit(main())
