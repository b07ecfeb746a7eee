"""What Kustomize builds from a folder, as far as deploy/ needs it: resources, ConfigMaps, namespace and images.

https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.deploy.files import read_yaml

__all__ = ["Build"]

KEYS = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "generatorOptions", "images"}
"""Those that are understood here: what else a file said would be overlooked."""


class Build:
    """`objects` is what comes of a folder, `files` what was read for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.files = {self.folder / "kustomization.yaml"}
        self.objects: list[dict[str, Any]] = []
        content = read_yaml(self.folder / "kustomization.yaml")
        assert set(content) <= KEYS, f"not known here: {set(content) - KEYS}"
        assert (content["apiVersion"], content["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
        for name in content.get("resources", ()):
            self._add(name)
        options = content.get("generatorOptions", {})
        assert set(options) <= {"disableNameSuffixHash", "labels", "annotations"}
        for generator in content.get("configMapGenerator", ()):
            self.objects.append(self._config_map(generator, options))
        for each in self.objects:
            if "namespace" in content:
                each["metadata"]["namespace"] = content["namespace"]
            for image in content.get("images", ()):
                _set_image(each, image)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def only(self, kind: str) -> dict[str, Any]:
        """Return the one object of a kind."""
        (found,) = self.of_kind(kind)
        return found

    def _add(self, name: str) -> None:
        path = (self.folder / name).resolve()
        if path.is_dir():  # may be anywhere
            below = Build(path)
            self.files |= below.files
            self.objects += below.objects
        else:
            self.objects.append(read_yaml(self._inside(path)))

    def _config_map(self, generator: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        assert set(generator) == {"name", "files"}
        assert options["disableNameSuffixHash"] is True, "names with a hash are not made here"
        paths = [self._inside((self.folder / name).resolve()) for name in generator["files"]]
        metadata = {
            "name": generator["name"],
            **{key: options[key] for key in ("labels", "annotations") if key in options},
        }
        data = {path.name: path.read_text(encoding="utf-8") for path in paths}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def _inside(self, path: Path) -> Path:
        assert path.is_relative_to(self.folder), f"Kustomize reads no file outside of its folder: {path}"
        assert path.is_file(), path
        self.files.add(path)
        return path


def _set_image(each: dict[str, Any], image: dict[str, str]) -> None:
    pod = each.get("spec", {}).get("template", {}).get("spec", {})
    for container in (*pod.get("containers", ()), *pod.get("initContainers", ())):
        if container["image"] == image["name"]:
            container["image"] = f"{image['newName']}:{image['newTag']}"
