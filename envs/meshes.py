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
# A side of the bounding box may move by a twentieth of the longest side, or by less than half a pixel of a policy's
# view.
_SIDE_ERROR, _SIDE_ERROR_M = 0.05, 3e-3
# Meshes of loose patches do not get down to the number of triangles aimed at; so many times it will do.
_EXCESS = 2.5


@dataclass(frozen=True)
class Detail:
    """How many triangles a mesh keeps: factor * sqrt(triangles * side / 0.1 m), side being that of its bounding box.

    So small parts survive and large ones shrink most. The influence of the side is limited to a factor of 0.5 to 1.5.

    Attributes:
        factor: For most meshes.
        close_up: Name endings of meshes that the wrist camera sees from near, with their own factor.
        fewest: Meshes of at most this many triangles stay as they are.
        solid: Simplify meshes that can collide too: what is hit is then the hull of the simplified mesh.
    """

    factor: float = 3.6
    close_up: tuple[tuple[str, float], ...] = (("finger_vis", 40.0), ("hand_vis", 10.0))
    fewest: int = 20
    solid: bool = False

    def factor_of(self, mesh_name: str) -> float:
        """Returns the factor that applies to a mesh."""
        return next((factor for ending, factor in self.close_up if mesh_name.endswith(ending)), self.factor)


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the frame of its file.

    Attributes:
        vertices: (v, 3); a vertex on a sharp edge appears once for each of its normals.
        normals: (v, 3) unit vectors.
        faces: (f, 3), indices of vertices.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray


def simplify(spec: mujoco.MjSpec, detail: Detail | None = None) -> int:
    """Replaces, in place and before compiling, the visual meshes of the spec by simplified ones.

    Names, materials, scales and poses stay. Meshes used by a geom that contributes mass or (unless told) can collide,
    textured meshes and meshes that do not come from a file are left alone.

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
    for mesh in _meshes_to_simplify(spec, detail.solid):
        simple = _simplified(_mesh_path(spec, mesh), detail.factor_of(mesh.name), detail.fewest)
        mesh.file = ""
        mesh.content_type = ""
        # Only the frame in which the compiler stores the vertices depends on it; open surfaces have no volume.
        mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        # One normal a vertex: MuJoCo 3.9 garbles separate normals of corners (`userfacenormal`).
        mesh.uservert, mesh.usernormal = simple.vertices.ravel(), simple.normals.ravel()
        mesh.userface = simple.faces.ravel()
        count += 1
    return count


def cache_dir() -> Path:
    """Returns where simplified meshes are kept: $WAMBENCH_CACHE, $XDG_CACHE_HOME/wambench or ~/.cache/wambench."""
    own = os.environ.get("WAMBENCH_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wambench"


def _meshes_to_simplify(spec: mujoco.MjSpec, solid: bool) -> list[mujoco.MjsMesh]:
    """Returns the meshes from files that are only ever looked at, or at most hit."""
    textured = {m.name for m in spec.materials if any(m.textures)}
    users: dict[str, list[mujoco.MjsGeom]] = {}
    for geom in spec.geoms:
        users.setdefault(geom.meshname, []).append(geom)
    return [
        mesh
        for mesh in spec.meshes
        if mesh.file and users.get(mesh.name) and all(_replaceable(spec, g, textured, solid) for g in users[mesh.name])
    ]


def _replaceable(spec: mujoco.MjSpec, geom: mujoco.MjsGeom, textured: set[str], solid: bool) -> bool:
    """Returns whether the shape of a mesh geom matters to the eye alone (or, if solid, to collisions)."""
    lowest, highest = spec.compiler.inertiagrouprange
    from_geoms = spec.compiler.inertiafromgeom == mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_TRUE
    given = geom.parent.explicitinertial and not from_geoms
    weightless = given or not lowest <= geom.group <= highest or geom.mass == 0
    collides = geom.contype != 0 or geom.conaffinity != 0
    # MuJoCo can fit a primitive to a mesh; then the mesh decides its size.
    return (
        geom.type == mujoco.mjtGeom.mjGEOM_MESH
        and (solid or not collides)
        and weightless
        and geom.material not in textured
    )


def _mesh_path(spec: mujoco.MjSpec, mesh: mujoco.MjsMesh) -> Path:
    return Path(spec.modelfiledir or "") / (spec.compiler.meshdir or "") / mesh.file


def _simplified(path: Path, factor: float, fewest: int) -> Mesh:
    """Returns the simplified mesh, from the cache if it is there."""
    try:
        stat = path.stat()
        content = _content_hash(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ValueError(f"cannot read the mesh {path}: {error.strerror}") from error
    made_by = f"{content} {path.suffix.lower()} {factor} {fewest} {_RULE} {version('fast-simplification')}"
    return _load_or_make(hashlib.sha256(made_by.encode()).hexdigest(), path, factor, fewest)


@lru_cache(maxsize=512)
def _content_hash(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns  # they make a changed file a new one
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=512)
def _load_or_make(key: str, path: Path, factor: float, fewest: int) -> Mesh:
    stored = cache_dir() / "meshes" / f"{key}.npz"
    mesh = _load(stored)
    if mesh is None:
        mesh = _make(path, factor, fewest)
        _store(stored, mesh)
    return mesh


def _load(path: Path) -> Mesh | None:
    """Returns a stored mesh, None if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Mesh(arrays["vertices"], arrays["normals"], arrays["faces"])
    except Exception:  # zipfile, zlib and numpy each have their own errors for a torn file; all mean: make it again
        return None


def _store(path: Path, mesh: Mesh) -> None:
    """Writes a mesh so that no other process ever sees half of it; an unwritable folder only costs time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, vertices=mesh.vertices, normals=mesh.normals, faces=mesh.faces)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return


def _make(path: Path, factor: float, fewest: int) -> Mesh:
    original = _read(path)
    vertices, faces = _joined(original.vertices, original.faces, 1e-6)
    by_side = min(max(math.sqrt(float(np.ptp(vertices, axis=0).max()) / 0.1), 0.5), 1.5)
    target = max(fewest, round(factor * by_side * math.sqrt(len(faces))))
    if target < len(faces):
        vertices, faces = _reduced(vertices, faces, target)
    return _shaded(vertices, faces, original)


def _read(path: Path) -> Mesh:
    """Returns the mesh in the frame of its file, as MuJoCo reads it, with every corner a vertex of its own."""
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
    corners = np.arange(model.mesh_face.size).reshape(-1, 3)
    return Mesh(vertices[model.mesh_face.ravel()], normals[model.mesh_facenormal.ravel()], corners)


def _joined(vertices: np.ndarray, faces: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mesh with the vertices of each cell of a grid joined at their mean, without the flattened faces.

    Args:
        vertices: (v, 3).
        faces: (f, 3).
        tolerance: Size of a cell relative to the longest side of the mesh.
    """
    grid = max(float(np.ptp(vertices, axis=0).max()) * tolerance, 1e-12)
    _, cell = np.unique(np.round(vertices / grid).astype(np.int64), axis=0, return_inverse=True)
    cell = cell.ravel()
    means = np.stack([np.bincount(cell, vertices[:, i]) for i in range(3)], axis=1) / np.bincount(cell)[:, None]
    joined = cell[faces]
    a, b, c = joined.T
    joined = joined[(a != b) & (b != c) & (c != a)]
    # Equal faces, whichever corner comes first, are drawn once; the two sides of a sheet stay two faces.
    turn = (joined.argmin(axis=1)[:, None] + np.arange(3)) % 3
    return means, np.unique(np.take_along_axis(joined, turn, axis=1), axis=0)


def _reduced(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mesh with about `target` faces: by collapsing edges, or by joining vertices where that fails.

    Collapsing edges is the better of the two, but it does not get far with a mesh of loose patches, and can make a
    small open one vanish.
    """
    import fast_simplification

    points, triangles = fast_simplification.simplify(vertices, faces.astype(np.int32), target_count=target)
    if 0 < len(triangles) <= _EXCESS * target:
        moved = max(np.abs(f(points, axis=0) - f(vertices, axis=0)).max() for f in (np.min, np.max))
        if moved < max(_SIDE_ERROR * np.ptp(vertices, axis=0).max(), _SIDE_ERROR_M):
            return np.asarray(points, np.float64), np.asarray(triangles, np.int64)
    for cells in range(64, 4, -4):
        points, triangles = _joined(vertices, faces, 1 / cells)
        if len(triangles) <= _EXCESS * target:
            break
    return points, triangles


def _shaded(vertices: np.ndarray, faces: np.ndarray, original: Mesh) -> Mesh:
    """Returns the mesh with the normals that the original has near each corner.

    Normals computed from few triangles show every facet; the original's keep a curved surface smooth. The normals near
    a vertex are averaged with more weight the more they agree with a corner's own face, so that edges stay sharp.
    """
    nearest = _nearest(vertices, original.vertices)  # (v, k) corners of the original
    corners = vertices[faces]
    face = _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    candidates = original.normals[nearest[faces]]  # (f, 3, k, 3)
    agreement = np.einsum("fckd,fd->fck", candidates, face).clip(min=0.0) ** 6
    normals = _unit((candidates * agreement[..., None]).sum(axis=2) + 1e-3 * face[:, None]).reshape(-1, 3)
    split, first, corner = np.unique(
        np.column_stack([faces.ravel(), np.round(normals, 2)]), axis=0, return_index=True, return_inverse=True
    )
    points = vertices[split[:, 0].astype(np.int64)]
    return Mesh(points.astype(np.float32), normals[first].astype(np.float32), corner.reshape(-1, 3).astype(np.int32))


def _nearest(points: np.ndarray, cloud: np.ndarray, k: int = 12) -> np.ndarray:
    """Returns (p, k) indices of the points of the cloud nearest to each point."""
    k = min(k, len(cloud))
    rows = []
    cloud = cloud - points.mean(axis=0)
    points, cloud = (points - points.mean(axis=0)).astype(np.float32), cloud.astype(np.float32)
    squares = (cloud**2).sum(axis=1)
    for block in np.array_split(points, max(1, len(points) * len(cloud) // 500_000)):
        distance = squares - 2 * block @ cloud.T
        rows.append(np.argpartition(distance, k - 1, axis=1)[:, :k])
    return np.concatenate(rows)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors of length one; those of no length become z."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), [0.0, 0.0, 1.0])
