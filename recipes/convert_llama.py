"""Convert a checkpoint between AstroLLM and Llama, Mistral, Qwen2 or Qwen3.

    python recipes/convert_llama.py SOURCE DEST [--to TYPE] [--vocab-size N] [--dtype DTYPE] [--max-shard-size SIZE]

SOURCE is a folder with config.json and safetensors. An AstroLLM becomes the first of Llama, Mistral, Qwen2 and Qwen3
that computes the same function; any of those becomes an AstroLLM, with the code that loads it where this package is
not installed. Memory does not grow with the model.
"""

import argparse
import sys

import torch

from modeling_astrobio.training.errors import UserError
from modeling_astrobio.training.llama_configs import CONFIG_CLASSES
from modeling_astrobio.training.llama_conversion import convert_checkpoint


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="checkpoint folder to read")
    parser.add_argument("dest", help="checkpoint folder to make")
    parser.add_argument("--to", choices=list(CONFIG_CLASSES), help="model type of the result; default: by the source")
    parser.add_argument(
        "--vocab-size", type=int, metavar="N", help="extend embedding and head to N tokens, new rows near the mean row"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="store in this dtype; default: the source's"
    )
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="bytes in one file (default: 5GB)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        report = convert_checkpoint(
            arguments.source,
            arguments.dest,
            to=arguments.to,
            vocab_size=arguments.vocab_size,
            dtype=getattr(torch, arguments.dtype) if arguments.dtype else None,
            max_shard_size=arguments.max_shard_size,
        )
    except UserError as error:
        sys.exit(f"convert_llama.py: {error}")
    print(report)


if __name__ == "__main__":
    main()
