"""Every pass by name: each module of this folder declares one as `PASS`. Pure."""

import importlib
import pkgutil

from compression.recipe.declaration import Pass

#: A file put into this folder is a pass; there is no list to keep.
PASSES: dict[str, Pass] = {
    declared.name: declared
    for declared in (
        importlib.import_module(f"{__name__}.{module.name}").PASS
        for module in pkgutil.iter_modules(__path__)
    )
}
