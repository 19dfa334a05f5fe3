"""Rendering and simplified meshes: same physics, same place, one thread, deterministic images."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest

from wambench.envs import meshes, opengl, rendering, robot
from wambench.envs.rendering import Renderer, frame_hash, gl_backend

pytestmark = pytest.mark.slow

CAMERAS = ("agentview", "robot0_eye_in_hand")
SIZE = (96, 96)

SMALL = """
<mujoco>
  <asset>
    <texture name="t" type="2d" builtin="flat" width="8" height="8" rgb1="1 0 0"/>
    <material name="m" texture="t"/>
  </asset>
  <worldbody>
    <light pos="0 0 3" castshadow="true"/>
    <geom type="plane" size="1 1 .1" material="m" group="1"/>
    <geom type="box" pos="0 0 .2" size=".1 .2 .1" rgba="0 1 0 .5" group="1"/>
    <geom type="sphere" pos=".3 0 .2" size=".1" rgba="0 0 1 .5" group="1"/>
    <geom type="sphere" pos="-.3 0 .2" size=".1" rgba="0 0 0 1" group="0"/>
    <site pos="0 .4 .2" size=".1" rgba="0 0 0 1"/>
    <camera name="above" pos="0 0 2"/>
    <camera name="aside" pos="2 0 .5" xyaxes="0 1 0 0 0 1"/>
  </worldbody>
</mujoco>
"""


def _small(xml: str = SMALL) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAMBENCH_CACHE", str(folder))
        meshes._load_or_make.cache_clear()
        yield folder
    meshes._load_or_make.cache_clear()


@pytest.fixture(scope="module")
def original() -> mujoco.MjModel:
    return robot.tabletop_spec().compile()


@pytest.fixture(scope="module")
def simple(cache: Path) -> mujoco.MjModel:
    spec = robot.tabletop_spec()
    assert meshes.simplify(spec) > 50
    return spec.compile()


def _at_start(model: mujoco.MjModel) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:7] = robot.INITIAL_QPOS
    mujoco.mj_forward(model, data)
    return data


def _world_vertices(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    mesh = model.geom_dataid[geom]
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    local = model.mesh_vert[first : first + count]
    return local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


def _mesh_geoms(model: mujoco.MjModel) -> list[int]:
    return [g for g in range(model.ngeom) if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH]


def test_simplified_robot_is_small(original: mujoco.MjModel, simple: mujoco.MjModel) -> None:
    def visual_triangles(model: mujoco.MjModel) -> int:
        return sum(model.mesh_facenum[model.geom_dataid[g]] for g in _mesh_geoms(model) if model.geom_group[g] == 1)

    assert visual_triangles(original) > 150_000
    assert visual_triangles(simple) < 12_000
    assert simple.mesh_facenum.min() >= 4


def test_simplified_meshes_stay_in_place(original: mujoco.MjModel, simple: mujoco.MjModel) -> None:
    a, b = _at_start(original), _at_start(simple)
    assert _mesh_geoms(original) == _mesh_geoms(simple)
    for geom in _mesh_geoms(original):
        before, after = _world_vertices(original, a, geom), _world_vertices(simple, b, geom)
        limit = max(0.005, 0.05 * np.ptp(before, axis=0).max())  # along the axes of the simulator, not of the mesh
        np.testing.assert_allclose(after.min(axis=0), before.min(axis=0), atol=limit, err_msg=original.geom(geom).name)
        np.testing.assert_allclose(after.max(axis=0), before.max(axis=0), atol=limit, err_msg=original.geom(geom).name)
    np.testing.assert_array_equal(original.geom_matid, simple.geom_matid)
    np.testing.assert_array_equal(original.geom_rgba, simple.geom_rgba)


def test_physics_is_bitwise_the_same(original: mujoco.MjModel, simple: mujoco.MjModel) -> None:
    for name in ("body_mass", "body_inertia", "body_ipos", "body_iquat", "body_invweight0", "dof_invweight0"):
        np.testing.assert_array_equal(getattr(original, name), getattr(simple, name), err_msg=name)
    collides = (original.geom_contype != 0) | (original.geom_conaffinity != 0)
    assert 0 < collides.sum() < original.ngeom
    for name in ("geom_size", "geom_pos", "geom_quat", "geom_friction", "geom_solref", "geom_aabb", "geom_rbound"):
        np.testing.assert_array_equal(getattr(original, name)[collides], getattr(simple, name)[collides], err_msg=name)
    a, b = _at_start(original), _at_start(simple)
    rng = np.random.default_rng(0)
    contacts = 0
    for _ in range(500):
        a.ctrl[:] = b.ctrl[:] = rng.uniform(-5, 5, original.nu)  # too little to hold the arm: it falls on the table
        mujoco.mj_step(original, a)
        mujoco.mj_step(simple, b)
        contacts += a.ncon
    assert contacts > 0
    np.testing.assert_array_equal(a.qpos, b.qpos)
    np.testing.assert_array_equal(a.qvel, b.qvel)


def test_simplified_robot_looks_alike(original: mujoco.MjModel, simple: mujoco.MjModel) -> None:
    images = []
    for model in (original, simple):
        with Renderer(model) as renderer:
            images.append(renderer.render(_at_start(model), (*CAMERAS, "frontview"), SIZE))
    for camera in images[0]:
        error = images[0][camera].astype(float) - images[1][camera]
        assert 10 * np.log10(255**2 / max(1e-9, np.mean(error**2))) > 22.0, camera


def test_cache_is_hit_and_survives_damage(cache: Path, simple: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((cache / "meshes").iterdir())
    assert files and all(f.suffix == ".npz" for f in files)
    made: list[Path] = []
    really_make = meshes._make

    def counting_make(path: Path, factor: float, fewest: int) -> meshes.Mesh:
        made.append(path)
        return really_make(path, factor, fewest)

    monkeypatch.setattr(meshes, "_make", counting_make)
    meshes._load_or_make.cache_clear()
    spec = robot.tabletop_spec()
    meshes.simplify(spec)
    again = spec.compile()
    assert made == []
    np.testing.assert_array_equal(again.mesh_vert, simple.mesh_vert)
    smallest = min(files, key=lambda f: f.stat().st_size)
    whole = smallest.read_bytes()
    smallest.write_bytes(whole[: len(whole) // 2])
    meshes._load_or_make.cache_clear()
    meshes.simplify(robot.tabletop_spec())
    assert len(made) == 1
    assert len(smallest.read_bytes()) == len(whole)


def _write_ball(path: Path) -> None:
    """Writes an egg of 1200 triangles, off the origin, as an OBJ file."""
    polar, around = np.meshgrid(np.linspace(0.05, np.pi - 0.05, 21), np.linspace(0, 2 * np.pi, 31)[:-1], indexing="ij")
    points = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), 2 * np.cos(polar)], axis=-1)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in (0.1 * points + [1.0, 0.0, 0.5]).reshape(-1, 3)]
    for i in range(20):
        for j in range(30):
            a, b, c, d = 30 * i + j, 30 * (i + 1) + j, 30 * (i + 1) + (j + 1) % 30, 30 * i + (j + 1) % 30
            lines += [f"f {a + 1} {b + 1} {c + 1}", f"f {a + 1} {c + 1} {d + 1}"]
    path.write_text("\n".join(lines))


def _egg_spec(path: Path, **geom: float) -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.add_mesh(name="egg", file=str(path), scale=[1, 2, -0.5], refpos=[0.1, 0.2, 0.3], refquat=[0.6, 0.8, 0, 0])
    body = spec.worldbody.add_body(pos=[0, 0, 1])
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="egg", pos=[0, 0.1, 0], **geom)
    body.add_freejoint()
    return spec


def test_scale_and_reference_frame_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAMBENCH_CACHE", str(tmp_path / "a file, no folder"))
    (tmp_path / "a file, no folder").touch()
    _write_ball(tmp_path / "egg.obj")
    boxes = []
    for simplified in (False, True):
        spec = _egg_spec(tmp_path / "egg.obj", contype=0, conaffinity=0, mass=0)
        body = spec.bodies[1]
        body.explicitinertial, body.mass, body.inertia = True, 1.0, [1, 1, 1]
        if simplified:
            assert meshes.simplify(spec) == 1
        model = spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        vertices = _world_vertices(model, data, 0)
        boxes.append(np.concatenate([vertices.min(axis=0), vertices.max(axis=0)]))
    assert model.mesh_facenum[0] < 300
    np.testing.assert_allclose(boxes[1], boxes[0], atol=0.01)


@pytest.mark.parametrize("geom", [{"contype": 1, "conaffinity": 1}, {"contype": 0, "conaffinity": 0}])
def test_meshes_that_physics_needs_are_left_alone(tmp_path: Path, geom: dict[str, float]) -> None:
    _write_ball(tmp_path / "egg.obj")
    # The second one cannot collide, but the body has its mass from it.
    assert meshes.simplify(_egg_spec(tmp_path / "egg.obj", **geom)) == 0


def test_missing_mesh_file_is_named(tmp_path: Path) -> None:
    spec = _egg_spec(tmp_path / "egg.obj", contype=0, conaffinity=0, mass=0)
    with pytest.raises(ValueError, match=r"egg\.obj"):
        meshes.simplify(spec)


@pytest.mark.parametrize("profile", rendering.PROFILES)
def test_cameras_equal_separate_updates(profile: str, simple: mujoco.MjModel) -> None:
    both = ("above", "aside")
    endless = SMALL.replace('size="1 1 .1"', 'size="0 0 .1"').replace('pos="2 0 .5"', 'pos="700 0 .5"')
    scenes = [(*_small(), both), (*_small(endless), both)]
    if profile == "fast":
        scenes.append((simple, _at_start(simple), CAMERAS))
    for model, data, cameras in scenes:
        with Renderer(model, profile) as renderer:
            together = renderer.render(data, cameras, SIZE)
        for camera in cameras:
            with Renderer(model, profile) as renderer:
                for _ in range(2):  # what the scene held before must not matter either
                    alone = renderer.render(data, (camera,), SIZE)[camera]
                    np.testing.assert_array_equal(together[camera], alone)
        assert not np.array_equal(together[cameras[0]], together[cameras[1]])


def test_rendering_is_deterministic_and_upright() -> None:
    hashes = set()
    for _ in range(2):
        model, data = _small()
        with Renderer(model) as renderer:
            for _ in range(2):
                image = renderer.render(data, ("aside",), (48, 64))["aside"]
                assert image.shape == (48, 64, 3) and image.dtype == np.uint8
                hashes.add(frame_hash(image))
    assert len(hashes) == 1 and len(hashes.pop()) == 16
    floor = (image[..., 0] > 50) & (image[..., 2] < 50)
    assert np.flatnonzero(floor.any(axis=1)).min() > 10  # the red floor is below, the sky above


def test_collision_geoms_and_sites_are_hidden() -> None:
    model, data = _small()
    with Renderer(model) as renderer:
        before = renderer.render(data, ("above",), SIZE)["above"]
        model.geom_rgba[3, :3] = model.site_rgba[0, :3] = 1.0
        np.testing.assert_array_equal(renderer.render(data, ("above",), SIZE)["above"], before)


def test_two_renderers_and_sizes_do_not_disturb_each_other() -> None:
    (model_a, data_a), (model_b, data_b) = _small(), _small()
    model_b.geom_rgba[1] = [1, 1, 1, 1]
    a, b = Renderer(model_a), Renderer(model_b)
    first_a, first_b = a.render(data_a, ("above",), SIZE)["above"], b.render(data_b, ("above",), SIZE)["above"]
    assert frame_hash(first_a) != frame_hash(first_b)
    assert b.render(data_b, ("above",), (300, 400))["above"].shape == (300, 400, 3)
    b.close()
    assert gl_backend()
    np.testing.assert_array_equal(a.render(data_a, ("above",), SIZE)["above"], first_a)
    a.close()
    with pytest.raises(RuntimeError, match="closed"):
        a.render(data_a, ("above",), SIZE)


def test_changed_texture_is_seen_after_upload() -> None:
    model, data = _small()
    with Renderer(model) as renderer:
        renderer.upload_textures()
        red = renderer.render(data, ("above",), SIZE)["above"]
        model.tex_data[:] = np.tile(np.array([0, 0, 255], np.uint8), model.ntexdata // 3)
        np.testing.assert_array_equal(renderer.render(data, ("above",), SIZE)["above"], red)
        renderer.upload_textures([0])
        blue = renderer.render(data, ("above",), SIZE)["above"]
    assert blue[90, 10, 2] > 50 > blue[90, 10, 0]


def test_another_thread_is_refused() -> None:
    model, data = _small()
    errors: list[BaseException] = []

    def use() -> None:
        try:
            renderer.render(data, ("above",), SIZE)
        except RuntimeError as error:
            errors.append(error)

    with Renderer(model) as renderer:
        expected = frame_hash(renderer.render(data, ("above",), SIZE)["above"])
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert len(errors) == 1 and "thread" in str(errors[0])
        assert frame_hash(renderer.render(data, ("above",), SIZE)["above"]) == expected


def test_bad_requests_are_refused() -> None:
    model, data = _small()
    with pytest.raises(ValueError, match="did you mean 'fast'"):
        Renderer(model, "fats")
    with Renderer(model) as renderer:
        with pytest.raises(ValueError, match="did you mean 'above'"):
            renderer.render(data, ("abov",), SIZE)
        with pytest.raises(ValueError, match="positive"):
            renderer.render(data, ("above",), (0, 96))


def test_missing_opengl_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opengl, "_REQUESTED", "")
    monkeypatch.setattr(opengl, "_egl_works", lambda: False)
    monkeypatch.setattr(opengl, "_osmesa_works", lambda: False)
    monkeypatch.setattr(opengl, "_backend", opengl.choose_backend)
    with pytest.raises(RuntimeError, match=r"libegl1 and libgl1-mesa-dri .*libosmesa6"):
        gl_backend()
