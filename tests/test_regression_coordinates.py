"""From what cells say they see to the pose: the layers, the head, the loss, depth of cells."""

import io

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")

from relocalize.errors import LocalizerError  # noqa: E402
from relocalize.geometry import Camera  # noqa: E402
from relocalize.regression.answers import SHOWN, Cells  # noqa: E402
from relocalize.regression.backbones.backbone import Stage  # noqa: E402
from relocalize.regression.depths import cell_depths, cell_middles, cell_rays  # noqa: E402
from relocalize.regression.heads import CellOutput, PoseOutput, make_head  # noqa: E402
from relocalize.regression.losses import PoseTarget, make_loss  # noqa: E402
from relocalize.regression.pose_layer import aligned, refined_pose  # noqa: E402
from relocalize.regression.rotations import matrix_from_6d  # noqa: E402
from relocalize.regression.settings import HeadSettings, LossSettings, TrainSettings  # noqa: E402

CAMERA = Camera("PINHOLE", 256, 192, (210.0, 215.0, 130.0, 94.0))
GRID = (6, 8)
RAYS = torch.from_numpy(cell_rays(CAMERA, GRID)).float()
MAPS = {"mid": Stage(16, 16), "deep": Stage(24, 32)}


def poses(count, *, seed=0, turn_deg=170.0):
    rng = np.random.default_rng(seed)
    turns = rng.normal(size=(count, 3))
    turns *= (
        np.radians(turn_deg)
        * rng.uniform(0.2, 1, (count, 1))
        / np.linalg.norm(turns, axis=1, keepdims=True)
    )
    rotation = torch.from_numpy(Rotation.from_rotvec(turns).as_matrix()).float()
    return rotation, torch.from_numpy(rng.normal(size=(count, 3))).float()


def scene(rotation, centre, *, seed=0):
    """World points that the cells see, and their depths."""
    rng = np.random.default_rng(seed)
    depth = torch.from_numpy(rng.uniform(1.0, 4.0, (len(centre), len(RAYS)))).float()
    in_camera = torch.cat((RAYS, torch.ones(len(RAYS), 1)), 1) * depth[..., None]
    return in_camera @ rotation.transpose(1, 2) + centre[:, None], in_camera, depth


def degrees(one, other):
    turn = (one.transpose(1, 2) @ other).double().numpy()
    return np.degrees(Rotation.from_matrix(turn).magnitude())


def test_alignment_finds_the_motion_that_made_the_points():
    rotation, centre = poses(50, turn_deg=180.0)
    world, in_camera, _ = scene(rotation, centre)
    found, where = aligned(world, in_camera, torch.ones(world.shape[:2]))
    assert degrees(found, rotation).max() < 0.01
    assert (where - centre).norm(dim=1).max() < 1e-3


def test_depth_is_off_where_sure_cells_see_things_nearer_than_they_are():
    rotation, centre = poses(4)
    world, _, depth = scene(rotation, centre)
    said = 0.8 * depth
    said[:, ::3] = 7.0
    doubt = torch.full_like(depth, -3.0)
    doubt[:, ::3] = 0.0  # what is said of those has no weight
    world[:, 1] -= 2 * (world[:, 1] - centre)  # one is behind the camera
    poses_of = np.tile(np.eye(4), (4, 1, 1))
    poses_of[:, :3, :3], poses_of[:, :3, 3] = rotation.numpy(), centre.numpy()
    cells = Cells(world.numpy(), said.numpy(), doubt.numpy())
    np.testing.assert_allclose(cells.depth_off(poses_of), np.log(0.8), atol=1e-4)


def test_alignment_follows_the_heavier_points():
    rotation, centre = poses(5)
    world, in_camera, _ = scene(rotation, centre)
    world[:, ::3] += 1.0
    weights = torch.ones(world.shape[:2])
    weights[:, ::3] = 1e-6
    found, where = aligned(world, in_camera, weights)
    assert degrees(found, rotation).max() < 0.01
    assert (where - centre).norm(dim=1).max() < 1e-3


def test_resection_finds_the_pose_from_a_rough_one_and_ignores_what_is_wrong():
    rotation, centre = poses(20)
    world, _, _ = scene(rotation, centre)
    world[:, ::10] += 2.0  # a tenth is nonsense
    rough, _ = poses(20, seed=1, turn_deg=6.0)
    found, where, _ = refined_pose(
        rotation @ rough,
        centre + 0.15,
        world,
        RAYS,
        torch.full(world.shape[:2], 0.01),
        torch.tensor(2.0),
        steps=10,
    )
    assert degrees(found, rotation).max() < 0.1
    assert (where - centre).norm(dim=1).max() < 0.01


def test_the_covariance_is_the_spread_of_noisy_resections():
    rotation, centre = poses(1)
    rotation, centre = rotation.expand(2000, 3, 3), centre.expand(2000, 3)
    world, in_camera, _ = scene(rotation[:1], centre[:1])
    sigma = 0.004
    noise = torch.randn(2000, len(RAYS), 2, generator=torch.Generator().manual_seed(0)) * sigma
    moved = in_camera.repeat(2000, 1, 1)
    moved[..., :2] += noise * moved[..., 2:]
    world = moved @ rotation.transpose(1, 2) + centre[:, None]
    # Doubts that make all weights equal: the least-squares covariance.
    found, where, covariance = refined_pose(
        rotation,
        centre,
        world,
        RAYS,
        torch.full(world.shape[:2], sigma),
        torch.tensor(2.0),
        steps=3,
    )
    shift = ((where - centre)[:, None] @ rotation)[:, 0]
    turn = (rotation.transpose(1, 2) @ found).double().numpy()
    errors = np.hstack([shift.numpy(), Rotation.from_matrix(turn).as_rotvec()])
    stated = np.sqrt(np.diagonal(covariance.median(0).values.numpy()))
    # Cauchy weights take some of the information that is there.
    assert np.all(errors.std(axis=0) < 1.15 * stated)
    assert np.all(errors.std(axis=0) > 0.6 * stated)


def test_gradients_lead_cells_to_where_the_pose_gets_right():
    rotation, centre = poses(4)
    world, _, _ = scene(rotation, centre)
    offset = torch.zeros_like(world, requires_grad=True)
    doubts = torch.full(world.shape[:2], 0.02)
    noisy = world + 0.05 * torch.randn(world.shape, generator=torch.Generator().manual_seed(1))

    def miss(off):
        _, where, _ = refined_pose(
            rotation, centre, noisy + off, RAYS, doubts, torch.tensor(2.0), steps=2
        )
        return (where - centre).norm(dim=1).mean()

    before = miss(offset)
    before.backward()
    after = miss(-0.1 * offset.grad / offset.grad.norm())
    assert after < 0.9 * before.detach()


def head_of(**fields):
    settings = HeadSettings(
        kind="coordinates", grid=GRID, width=32, blocks=1, dropout=0.0, drawn_cells=20, **fields
    )
    torch.manual_seed(0)
    head = make_head(settings, MAPS, ("mid", "deep"))
    world, _, depth = scene(*poses(6))
    head.look_at(RAYS, world.flatten(0, 1), float(depth.median()))
    return head


def maps_of(count):
    generator = torch.Generator().manual_seed(0)
    return {
        "mid": torch.randn(count, 16, 12, 16, generator=generator),
        "deep": torch.randn(count, 24, 6, 8, generator=generator),
    }


@pytest.mark.parametrize(
    ("cell_stages", "moved"), [((), True), (("mid",), False), (("deep",), True), (("other",), True)]
)
def test_cells_see_the_stages_that_are_theirs_and_are_told_of_the_whole_image_by_all(
    cell_stages, moved
):
    seen = head_of(cell_stages=cell_stages).eval()
    maps = maps_of(2)
    # The 2 x 4 averages that all cells are told of stay.
    swapped = maps["deep"].unflatten(3, (4, 2)).flip(4).flatten(3)
    other, brighter = ({**maps, "deep": deep} for deep in (swapped, maps["deep"] + 1))
    with torch.no_grad():
        said, of_other, of_brighter = (seen(one).cells.scene for one in (maps, other, brighter))
    assert bool((said - of_other).abs().max() > 1e-3) == moved
    assert bool((said - of_brighter).abs().max() > 1e-3)


def test_cells_beyond_the_edge_of_an_image_have_no_say_and_nothing_is_told_of_them():
    head, maps = head_of().eval(), maps_of(2)
    seen = torch.ones(2, 1, *GRID)
    seen[..., :2] = 0
    other = {name: one.clone() for name, one in maps.items()}
    for one in other.values():
        one[..., : one.shape[-1] * 2 // GRID[1]] += 3.0
    with torch.no_grad():
        said, of_other = (head({**one, SHOWN: seen}) for one in (maps, other))
    inside = seen.flatten(1)[0] > 0
    assert torch.equal(said.cells.scene[:, inside], of_other.cells.scene[:, inside])
    doubts = said.cells.log_doubt.exp()
    assert doubts[:, ~inside].min() > 10 * doubts[:, inside].max()


def test_the_head_draws_cells_in_training_and_uses_all_of_them_afterwards():
    head = head_of().train()
    output = head(maps_of(3))
    assert output.cells.scene.shape == (3, 20, 3)
    assert len(set(output.cells.chosen.tolist())) == 20
    assert not torch.equal(output.cells.chosen, head(maps_of(3)).cells.chosen)
    head.eval()
    output = head(maps_of(3))
    assert output.cells.scene.shape == (3, len(RAYS), 3)
    rotation = matrix_from_6d(output.rotation)
    assert torch.allclose(rotation @ rotation.transpose(1, 2), torch.eye(3), atol=1e-4)
    assert output.log_variance.shape == (3, 6)
    assert torch.equal(output.position, head(maps_of(3)).position)


@pytest.mark.slow
def test_what_cells_are_told_of_the_image_varies_in_training_only():
    same = {stage: maps[:1].expand(50, -1, -1, -1) for stage, maps in maps_of(1).items()}

    def spread(head):
        said = head(same).cells.scene
        return float((said - said[0]).abs().max())

    assert spread(head_of(context_dropout=0.5).train()) > 1e-3
    assert spread(head_of().train()) < 1e-5
    told = head_of(context_dropout=0.5).eval()(same).position
    assert (told - told[0]).abs().max() < 1e-5


def test_the_head_learns_poses_that_it_was_shown():
    head = head_of()
    loss = make_loss(LossSettings(kind="coordinates", pretrain=0.6), "6d")
    rotation, centre = poses(6)
    _, _, depth = scene(rotation, centre)
    depths = torch.stack((depth, torch.ones_like(depth)), 1)
    target = PoseTarget(centre, rotation, depths=depths)
    maps = maps_of(6)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    for step in range(800):
        loss.run_share = step / 800
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / 800)
        optimizer.zero_grad()
        loss(head.train()(maps), target).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        output = head.eval()(maps)
    # Of poses that are turned by 35 to 170 degrees, 1 to 3 away from each other.
    assert np.median(degrees(matrix_from_6d(output.rotation), rotation)) < 2.0
    assert (output.position - centre).norm(dim=1).median() < 0.2


def test_cells_that_see_what_is_there_cost_less_than_others():
    loss = make_loss(LossSettings(kind="coordinates", pretrain=0.0), "6d")
    rotation, centre = poses(6)
    world, _, depth = scene(rotation, centre)
    depths = torch.stack((depth, torch.ones_like(depth)), 1)

    def cost(off, doubt, depths=depths):
        cells = CellOutput(
            world + off, depth, torch.full_like(depth, np.log(doubt)), torch.arange(48), RAYS
        )
        output = PoseOutput(centre, rotation[..., :2].flatten(1), cells=cells)
        return float(loss(output, PoseTarget(centre, rotation, depths=depths)))

    assert cost(0.0, 0.01) < cost(0.1, 0.01)
    # Cells that are off should doubt, and those that are not should not.
    assert cost(0.0, 0.01) < cost(0.0, 0.1)
    assert cost(0.3, 0.1) < cost(0.3, 0.01)
    # A map that says nothing of an image teaches nothing.
    assert cost(0.3, 0.1, torch.zeros_like(depths)) == 0.0


def test_a_pose_that_cells_hardly_determine_does_not_pull_them_apart():
    rotation, centre = poses(6)
    world, _, depth = scene(rotation, centre)
    depths = torch.stack((depth, torch.ones_like(depth)), 1)
    noise = 0.1 * torch.randn(world.shape, generator=torch.Generator().manual_seed(2))
    # In the first image one cell is believed, and the pose is free to turn about it.
    doubts = torch.full_like(depth, 0.05)
    doubts[0, 1:] = 5.0

    def pulls(pose_weight):
        loss = make_loss(
            LossSettings(kind="coordinates", pretrain=0.0, pose_weight=pose_weight), "6d"
        )
        said = (world + noise).requires_grad_()
        log_doubt = doubts.log().requires_grad_()
        cells = CellOutput(said, depth, log_doubt, torch.arange(48), RAYS)
        output = PoseOutput(centre, rotation[..., :2].flatten(1), cells=cells)
        loss(output, PoseTarget(centre, rotation, depths=depths)).backward()
        return said.grad

    rest = pulls(0.0)
    pose = (pulls(1e4) - rest).flatten(1).norm(dim=1) / rest.flatten(1).norm(dim=1)
    assert pose.max() < 5.01
    assert pose.min() > 4.99  # of so much weight each is as long as it may be


def test_the_pose_layer_exports_to_onnx_and_gives_the_same():
    onnxruntime = pytest.importorskip("onnxruntime")

    class Layers(torch.nn.Module):
        def forward(self, world, in_camera, doubts):
            rotation, centre = aligned(world, in_camera, doubts**-2)
            depth = torch.tensor(2.0)
            return refined_pose(rotation, centre, world, RAYS, doubts, depth, steps=5)

    rotation, centre = poses(1)
    world, in_camera, _ = scene(rotation, centre)
    generator = torch.Generator().manual_seed(0)
    world = world + 0.05 * torch.randn(world.shape, generator=generator)
    inputs = {"world": world, "in_camera": in_camera, "doubts": torch.full(world.shape[:2], 0.02)}
    buffer = io.BytesIO()
    torch.onnx.export(
        Layers(),
        tuple(inputs.values()),
        buffer,
        dynamo=False,
        opset_version=17,
        input_names=list(inputs),
    )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    for theirs, ours in zip(found, Layers()(*inputs.values()), strict=True):
        assert np.abs(theirs - ours.numpy()).max() < 1e-4


def test_depth_of_cells_is_that_of_a_plane_and_is_trusted_near_points():
    rng = np.random.default_rng(0)
    pixels = rng.uniform((0, 0), (128, 192), (400, 2))  # the left half of the image
    matrix = CAMERA.calibration_matrix
    rays = np.column_stack([(pixels - matrix[:2, 2]) / matrix[[0, 1], [0, 1]], np.ones(400)])
    depth = 3.0 / (1.0 + 0.2 * rays[:, 0])  # a plane that is not frontal
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [10, 80, -30], degrees=True).as_matrix()
    pose[:3, 3] = (3, -1, 2)
    points = (rays * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]
    found, trust = cell_depths(CAMERA, points, pose, GRID)
    middles = cell_middles(CAMERA, GRID)
    left = middles[:, 0] < 120
    true = 3.0 / (1.0 + 0.2 * cell_rays(CAMERA, GRID)[:, 0])
    assert np.abs(found[left] / true[left] - 1).max() < 0.02
    assert trust[left].min() > 0.7
    assert trust[middles[:, 0] > 230].max() < 0.1
    assert not cell_depths(CAMERA, points[:5], pose, GRID).any()


@pytest.mark.parametrize(
    "settings, named",
    [
        (lambda: TrainSettings(head=HeadSettings(kind="coordinates")), "loss.kind"),
        (lambda: TrainSettings(loss=LossSettings(kind="coordinates")), "loss.kind"),
        (lambda: HeadSettings(kind="coordinates", orientation="quaternion"), "head.orientation"),
        (lambda: HeadSettings(kind="coordinates", drawn_cells=0), "head.drawn_cells"),
    ],
)
def test_settings_that_do_not_fit_the_head_are_refused(settings, named):
    with pytest.raises(LocalizerError, match=named):
        settings()
