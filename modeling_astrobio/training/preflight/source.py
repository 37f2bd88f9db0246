"""The run that is examined: a training script, and the recipe it is started with."""

import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import yaml

from ..errors import RecipeError
from ..recipe import Recipe, load_recipe, read_yaml
from ..task import TrainingTask


__all__ = ["Source", "recipe_digest"]


@dataclass(frozen=True)
class Source:
    """What a user types after `python`.

    Attributes:
        script: The training script.
        recipe: A name in its folder of recipes, or a file.
        overrides: Texts `section.key=value`.
        strategy: A name in its folder of strategies, or a file.
    """

    script: str
    recipe: str
    overrides: tuple[str, ...] = ()
    strategy: str | None = None

    def with_overrides(self, *overrides: str) -> "Source":
        """Return the same with more overrides, which come before those that are there."""
        return replace(self, overrides=(*self.overrides, *overrides))

    def arguments(self) -> list[str]:
        """Return what stands behind the script on its command line."""
        strategy = ["--strategy", self.strategy] if self.strategy else []
        return [self.recipe, *self.overrides, *strategy]

    def task_class(self) -> type[TrainingTask]:
        """Return the script's task.

        Raises:
            RecipeError: If the script cannot be loaded, or has no task or several.
        """
        module = _load(Path(self.script))
        tasks = {
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, TrainingTask) and value is not TrainingTask
        }
        # A script that changes another one's task imports that one too.
        own = {task for task in tasks if task.__module__ == module.__name__} or tasks
        if len(own) != 1:
            raise RecipeError(
                f"--script must define one subclass of TrainingTask; got {sorted(task.__name__ for task in own)} in "
                f"{self.script}. Name a script such as recipes/train_llm.py."
            )
        return own.pop()

    def load(self) -> TrainingTask:
        """Return the task with its recipe.

        Raises:
            RecipeError: If the script or the recipe does not do.
        """
        task_class = self.task_class()
        folder = task_class.recipes
        layers = (read_yaml(self.strategy, folder / "strategies", "strategy"),) if self.strategy else ()
        kind = task_class.recipe_class
        return task_class(load_recipe(kind, self.recipe, list(self.overrides), folder / kind.kind, layers))


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 of a resolved recipe, by which the run can be told to be the one examined."""
    text = yaml.safe_dump(json.loads(json.dumps(recipe.to_dict())), sort_keys=True, allow_unicode=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _load(script: Path) -> ModuleType:
    if not script.is_file():
        raise RecipeError(f"--script must be a training script; got {str(script)!r}, which is no file.")
    script = script.resolve()
    name = f"preflight_of_{script.stem}_{hashlib.sha256(str(script).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise RecipeError(f"--script must be a Python file; got {str(script)!r}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # As where the script is started: what lies beside it can be imported.
    sys.path.insert(0, str(script.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RecipeError(f"--script {script.name} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(script.parent))
    return module
