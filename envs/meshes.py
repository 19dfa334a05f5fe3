"""Simplified visual meshes: a robot in thousands instead of hundreds of thousands of triangles.

Only meshes that no physics depends on are touched. The result of each is kept on disk, because simplifying takes
seconds; it is looked up by what it was made from, so a new robosuite or a new rule never meets an old file.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import mujoco
import numpy as np

# Raise it with any change of how a mesh is simplified or shaded.
_RULE = 1


@dataclass(frozen=True)
class Detail:
    """How many triangles a mesh of n keeps: factor * sqrt(n), so that small parts survive and large ones shrink most.

    Attributes:
        factor: For most meshes.
        close_up_factor: For meshes seen from near by the wrist camera.
        close_up: Parts of the names of those meshes.
        fewest: Meshes of at most this many triangles stay as they are.
    """

    factor: float = 4.0
    close_up_factor: float = 14.0
    close_up: tuple[str, ...] = ("hand", "finger")
    fewest: int = 24

    def target(self, mesh_name: str, triangles: int) -> int:
        """Returns the number of triangles to aim at."""
        near = any(part in mesh_name for part in self.close_up)
        factor = self.close_up_factor if near else self.factor
        return min(triangles, max(self.fewest, round(factor * math.sqrt(triangles))))


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the frame of its file.

    Attributes:
        vertices: (v, 3) float32.
        faces: (f, 3) int32, indices of vertices.
        normals: (n, 3) float32 unit vectors.
        face_normals: (f, 3) int32, indices of normals, one a corner.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    face_normals: np.ndarray


def simplify(spec: mujoco.MjSpec, detail: Detail | None = None) -> int:
    """Replaces, in place and before compiling, the visual meshes of the spec by simplified ones.

    Names, materials, scales and poses stay. Meshes used by a geom that can collide or contributes mass, textured
    meshes and meshes that do not come from a file are left alone.

    Args:
        spec: A spec that has not been attached to another; file paths must be readable.
        detail: How far to go.

    Returns:
        Number of meshes replaced.

    Raises:
        ValueError: A mesh file cannot be read.
    """
    detail = detail or Detail()
    count = 0
    for mesh in _visual_meshes(spec):
        simple = _simplified(_mesh_path(spec, mesh), mesh.name, detail)
        mesh.file = ""
        mesh.content_type = ""
        mesh.uservert = simple.vertices.ravel()
        mesh.userface = simple.faces.ravel()
        mesh.usernormal = simple.normals.ravel()
        mesh.userfacenormal = simple.face_normals.ravel()
        count += 1
    return count


def cache_dir() -> Path:
    """Returns where simplified meshes are kept: $WAMBENCH_CACHE, $XDG_CACHE_HOME/wambench or ~/.cache/wambench."""
    own = os.environ.get("WAMBENCH_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wambench"


def _visual_meshes(spec: mujoco.MjSpec) -> list[mujoco.MjsMesh]:
    """Returns the meshes from files that are only ever looked at."""
    textured = {m.name for m in spec.materials if any(m.textures)}
    users: dict[str, list[mujoco.MjsGeom]] = {}
    for geom in spec.geoms:
        users.setdefault(geom.meshname, []).append(geom)
    return [
        mesh
        for mesh in spec.meshes
        if mesh.file and users.get(mesh.name) and all(_only_visual(spec, g, textured) for g in users[mesh.name])
    ]


def _only_visual(spec: mujoco.MjSpec, geom: mujoco.MjsGeom, textured: set[str]) -> bool:
    """Returns whether the shape of a mesh geom matters to the eye alone."""
    lowest, highest = spec.compiler.inertiagrouprange
    weightless = geom.parent.explicitinertial or not lowest <= geom.group <= highest or geom.mass == 0
    collides = geom.contype != 0 or geom.conaffinity != 0
    # MuJoCo can fit a primitive to a mesh; then the mesh decides its size.
    return geom.type == mujoco.mjtGeom.mjGEOM_MESH and not collides and weightless and geom.material not in textured


def _mesh_path(spec: mujoco.MjSpec, mesh: mujoco.MjsMesh) -> Path:
    return Path(spec.modelfiledir or "") / (spec.compiler.meshdir or "") / mesh.file


def _simplified(path: Path, name: str, detail: Detail) -> Mesh:
    """Returns the simplified mesh, from the cache if it is there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"mesh {name!r}: cannot read {path}: {error.strerror}") from error
    rule = f"{_RULE} {detail.target(name, 10**6)} {detail.fewest} {version('fast-simplification')} {path.suffix.lower()}"
    key = hashlib.sha256(rule.encode() + b"\0" + hashlib.sha256(content).digest()).hexdigest()
    return _load_or_make(key, path, name, detail)


@lru_cache(maxsize=512)
def _load_or_make(key: str, path: Path, name: str, detail: Detail) -> Mesh:
    stored = cache_dir() / "meshes" / f"{key}.npz"
    mesh = _load(stored)
    if mesh is None:
        mesh = _make(path, name, detail)
        _store(stored, mesh)
    return mesh


def _load(path: Path) -> Mesh | None:
    """Returns a stored mesh, None if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Mesh(arrays["vertices"], arrays["faces"], arrays["normals"], arrays["face_normals"])
    except Exception:  # zipfile, zlib and numpy each have their own errors for a torn file; all mean: make it again
        return None


def _store(path: Path, mesh: Mesh) -> None:
    """Writes a mesh so that no other process ever sees half of it; an unwritable folder only costs time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(
                    file,
                    vertices=mesh.vertices,
                    faces=mesh.faces,
                    normals=mesh.normals,
                    face_normals=mesh.face_normals,
                )
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return


def _make(path: Path, name: str, detail: Detail) -> Mesh:
    original = _read(path)
    vertices, faces = _welded(original.vertices, original.faces, 1e-6)
    target = detail.target(name, len(faces))
    if target < len(faces):
        vertices, faces = _reduced(vertices, faces, target)
    normals, face_normals = _borrowed_normals(vertices, faces, original)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), normals, face_normals)


def _read(path: Path) -> Mesh:
    """Returns the mesh in the frame of its file, as MuJoCo reads it."""
    spec = mujoco.MjSpec()
    spec.add_mesh(name="mesh", file=str(path.resolve()), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh", contype=0, conaffinity=0)
    model = spec.compile()
    # The compiler moves a mesh into the frame of its inertia; this moves it back.
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.mesh_quat[0])
    back = rotation.reshape(3, 3).T
    vertices = model.mesh_vert.astype(np.float64) @ back + model.mesh_pos[0]
    normals = model.mesh_normal.astype(np.float64) @ back
    return Mesh(vertices, model.mesh_face.astype(np.int64), normals, model.mesh_facenormal.astype(np.int64))


def _welded(vertices: np.ndarray, faces: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mesh with near vertices joined and faces without area dropped; seams would tear otherwise.

    Args:
        vertices: (v, 3).
        faces: (f, 3).
        tolerance: Grid on which vertices count as equal, relative to the longest side of the mesh.
    """
    grid = max(float(np.ptp(vertices, axis=0).max()) * tolerance, 1e-12)
    cells = np.round(vertices / grid).astype(np.int64)
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = inverse.ravel()[faces]
    a, b, c = faces.T
    return vertices[first], faces[(a != b) & (b != c) & (c != a)]


def _reduced(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mesh by quadric edge collapse, or as it was if a side of its bounding box would shrink by a fifth."""
    import fast_simplification

    points, triangles = vertices, faces
    for tolerance in (1e-6, 3e-3):
        points, triangles = _welded(vertices, faces, tolerance)
        points, triangles = fast_simplification.simplify(points, triangles.astype(np.int32), target_count=target)
        # Loose patches keep their borders, and so too many triangles, unless they are welded coarsely.
        if len(triangles) <= 1.2 * target:
            break
    if len(triangles) < 4 or np.any(np.ptp(points, axis=0) < 0.8 * np.ptp(vertices, axis=0)):
        return vertices, faces
    return np.asarray(points, np.float64), np.asarray(triangles, np.int64)


def _borrowed_normals(vertices: np.ndarray, faces: np.ndarray, original: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, 3) normals and (f, 3) indices: each corner takes the normals that the original has near it.

    Normals computed from a few triangles show every facet; the original's keep a curved surface smooth. Of the
    normals at the nearest vertex, those within 60 degrees of the corner's own face are averaged, so that edges stay.
    """
    at, source = original.faces.ravel(), original.normals[original.face_normals.ravel()]
    nearest = _nearest(vertices, original.vertices[at])  # (v, k) corners of the original
    corners = vertices[faces]
    face = _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    candidates = source[nearest[faces]]  # (f, 3, k, 3)
    agree = np.einsum("fckd,fd->fck", candidates, face) > 0.5
    normals = _unit((candidates * agree[..., None]).sum(axis=2))
    normals = np.where(agree.any(axis=2)[..., None], normals, face[:, None])
    index = np.arange(faces.size, dtype=np.int32).reshape(-1, 3)
    return normals.reshape(-1, 3).astype(np.float32), index


def _nearest(points: np.ndarray, cloud: np.ndarray, k: int = 12) -> np.ndarray:
    """Returns (p, k) indices of the points of the cloud nearest to each point."""
    k = min(k, len(cloud))
    rows = []
    for block in np.array_split(points, max(1, len(points) * len(cloud) // 4_000_000)):
        distance = (cloud**2).sum(1) - 2 * block @ cloud.T
        rows.append(np.argpartition(distance, k - 1, axis=1)[:, :k])
    return np.concatenate(rows)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors of length one; those of no length become z."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), [0.0, 0.0, 1.0])
