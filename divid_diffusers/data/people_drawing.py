"""Pixels of rendered people: OpenGL without a screen (moderngl over EGL), lit, with shadows, anti-aliased."""

from __future__ import annotations

import numpy as np

from .people_hair import ENDS, above_hairline, thickness
from .people_mesh import PARTS, PersonMesh
from .people_person import BEARDS, Person
from .people_shaders import CAST, PAINT, PLACES, SCREEN, VERTEX


SAMPLES = 3  # pixels drawn for one, each way
SHADOW_SIZE = 256
LAYERS = 5  # that hair is drawn in
FAR = {"head": 1.3, "body": 4.0}  # metres, of the camera
LIT = {"head": (0.24, 0.0, 2.0), "body": (1.3, -1.0, 3.0)}  # metres that shadows reach: to the sides, from, to
CHIN, FOREHEAD, EARS = 0.64, 0.80, -0.05  # where the face ends in the mean person, metres: heights, and how far back
PER_VERTEX = {"canonical": 3, "part": 1, "lips": 1, "mouth": 1, "scalp": 1, "thickness": 1, "position": 3, "normal": 3}


class Renderer:
    """
    Draws heads, `size` pixels square. Raises OSError, in a sentence, where the machine has no OpenGL.
    """

    def __init__(self, mesh: PersonMesh, size: int) -> None:
        import moderngl

        try:
            self.context = context = moderngl.create_context(standalone=True, backend="egl", require=330)
        except Exception as error:  # moderngl raises a bare Exception
            raise OSError(
                f"OpenGL could not be started without a screen ({error}): install EGL, on Debian and Ubuntu "
                "apt install libegl1 libgl1-mesa-dri."
            ) from error
        context.gc_mode = "auto"  # the hair of each clip has arrays of its own
        self.mesh, self.size = mesh, size
        _, y, z = mesh.canonical.T
        self.head = (mesh.part == PARTS.index("skin")) & (z > CHIN)
        self.face = self.head & (z < FOREHEAD) & (y < EARS)
        pixels = (SAMPLES * size,) * 2
        self.numbers = [context.texture(pixels, 4, dtype="f4") for _ in range(3)]
        self.seen = context.framebuffer(self.numbers, context.depth_renderbuffer(pixels))
        self.frame = context.framebuffer(context.texture(pixels, 3))
        self.shadow_map = context.depth_texture((SHADOW_SIZE, SHADOW_SIZE))
        self.shadow_map.compare_func = "<="
        self.shadow_map.repeat_x = self.shadow_map.repeat_y = False
        self.shadow = context.framebuffer(depth_attachment=self.shadow_map)
        self.places, self.cast = context.program(VERTEX, PLACES), context.program(VERTEX, CAST)
        self.paint = context.program(SCREEN, PAINT)
        self.programs = (self.places, self.cast, self.paint)
        for unit, name in enumerate(("places", "facings", "spots", "shadow_map")):
            self.paint[name] = unit

        self.buffers = {
            name: context.buffer(reserve=len(mesh.vertices) * 4 * width, dynamic=True)
            for name, width in PER_VERTEX.items()
        }
        for name in ("canonical", "part", "lips", "mouth"):
            self.upload(name, getattr(mesh, name))
        self.everything = self.arrays(self.places, mesh.triangles)
        self.casting = self.arrays(self.cast, mesh.triangles)
        corners = context.buffer(np.float32([-1, -1, 3, -1, -1, 3]).tobytes())
        self.screen = context.vertex_array(self.paint, [(corners, "2f", "corner")])

    def upload(self, name: str, values: np.ndarray) -> None:
        self.buffers[name].write(np.ascontiguousarray(values, np.float32).tobytes())

    def arrays(self, program, triangles: np.ndarray):
        content = [(self.buffers[name], f"{width}f", name) for name, width in PER_VERTEX.items() if name in program]
        index = self.context.buffer(np.ascontiguousarray(triangles, np.int32).tobytes())
        return self.context.vertex_array(program, content, index)

    def set(self, **values) -> None:
        """Uniforms, of every program that has them."""
        for program in self.programs:
            for name, value in values.items():
                if name in program:
                    program[name].write(np.asarray(value, np.float32).T.tobytes())

    def draw(self, person: Person, rest: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        """
        Frames uint8 (N, size, size, 3) of a person whose vertices at rest are (V, 3) and in the frames (N, V, 3).
        Raises ValueError where the face leaves the frame.
        """
        self.set_person(person, rest)
        self.check_in_frame(vertices)
        grown = above_hairline(self.mesh.canonical, person)
        self.upload("scalp", grown)
        self.upload("thickness", thickness(self.mesh.canonical, person))
        triangles = self.mesh.triangles
        skin = (self.mesh.part[triangles] == 0).all(1)
        hairy = skin & (grown[triangles] > 0).any(1)
        hair = self.arrays(self.places, triangles[hairy]) if person.hair_style != "bald" else None
        frames = []
        for at in vertices:
            self.upload("position", at)
            self.upload("normal", self.mesh.normals(at))
            frames.append(self.draw_frame(hair))
        return np.stack(frames)

    def check_in_frame(self, vertices: np.ndarray) -> None:
        face = vertices[:, self.face]
        seen = np.pad(face, ((0, 0), (0, 0), (0, 1)), constant_values=1) @ self.view.T
        if not (np.abs(seen[..., :2]) < seen[..., 3:]).all():
            raise ValueError("The face leaves the frame: turn or nod the head less.")

    def draw_frame(self, hair) -> np.ndarray:
        gl = self.context
        gl.enable_only(gl.DEPTH_TEST | gl.CULL_FACE)
        self.cast["view"].write(np.float32(self.sun.T).tobytes())
        self.set(layer=0.0)
        self.shadow.use()
        self.shadow.clear()
        self.casting.render()
        gl.enable_only(gl.DEPTH_TEST)  # lashes and hair are seen from both sides
        self.seen.use()
        self.seen.clear(alpha=-1.0)  # nothing is seen
        self.places["view"].write(np.float32(self.view.T).tobytes())
        self.everything.render()
        if hair is not None:
            for layer in range(LAYERS, 0, -1):
                self.set(layer=layer / LAYERS)
                hair.render()
        self.frame.use()
        gl.enable_only(gl.NOTHING)
        for unit, texture in enumerate([*self.numbers, self.shadow_map]):
            texture.use(unit)
        self.screen.render()
        pixels = np.frombuffer(self.frame.read(components=3), np.uint8)
        pixels = pixels.reshape(self.size, SAMPLES, self.size, SAMPLES, 3)
        return np.round(pixels.mean((1, 3), dtype=np.float32)).astype(np.uint8)[::-1]

    def set_person(self, person: Person, rest: np.ndarray) -> None:
        # Framed by the head at rest, so that heads of all sizes fill as much of the picture.
        head = rest[self.head]
        low, top = head[:, 2].min(), head[:, 2].max()
        middle = np.array([head[:, 0].mean(), head[:, 1].mean(), (low + top) / 2 - 0.11 * (top - low)])
        half = 0.70 * (top - low) / person.zoom
        if self.mesh.region == "body":  # which stands on the ground; above it there is room for raised arms
            height = rest[:, 2].max() - rest[:, 2].min()
            middle, half = np.array([0, 0, 0.60 * height]), 0.66 * height / person.zoom
        far = FAR[self.mesh.region]
        camera_at = middle + [0, -far, 0.02]
        camera = perspective(half / far, near=0.23 * far, far=2.3 * far) @ look_at(camera_at, middle)
        camera[:2] += 2 * np.array(person.shift)[:, None] * camera[3]
        light = np.array([person.light[0], -person.light[2], person.light[1]])
        light /= np.linalg.norm(light)
        warm = np.array([1 + 0.12 * person.warmth, 1.0, 1 - 0.22 * person.warmth])
        wall = linear(person.background)
        sky = (1 - person.contrast) * (0.75 + 0.2 * wall / max(wall.mean(), 0.05))
        sun = orthographic(*LIT[self.mesh.region]) @ look_at(middle + light, middle)
        self.view, self.sun = camera, sun
        self.set(
            sun=sun, light=light, light_colour=1.8 * person.contrast * warm,
            eye_at=camera_at, ambient_sky=sky, ambient_ground=0.45 * sky,
            skin=linear(person.skin), lips_colour=linear(person.lips), iris=linear(person.eyes),
            hair=linear(person.hair), clothes=linear(person.clothes), trim=linear(person.trim),
            trousers=linear(person.trousers), shoes=linear(person.shoes),
            freckles=person.freckles, brow=person.brow, brow_height=person.brow_height, neckline=person.neckline,
            hair_end=ENDS.get(person.hair_style, 9.0), bald=float(person.hair_style == "bald"),
            beard=BEARDS.index(person.beard), grain=170.0 if person.hair_style == "curls" else 420.0,
            high=wall, low=linear(person.background_low), pattern=person.pattern,
        )  # fmt: skip


def linear(colour) -> np.ndarray:
    """The amounts of light of an sRGB colour, nearly."""
    return np.array(colour) ** 2.2


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """From the world to the axes of a camera at `eye`: (4, 4)."""
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = [right, np.cross(right, ahead), -ahead]
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


def perspective(slope: float, near: float, far: float) -> np.ndarray:
    """A square view that rises by `slope` each metre to each side: (4, 4)."""
    matrix = np.diag([1 / slope, 1 / slope, -(far + near) / (far - near), 0])
    matrix[2, 3], matrix[3, 2] = -2 * far * near / (far - near), -1
    return matrix


def orthographic(half: float, near: float, far: float) -> np.ndarray:
    """A square view of `half` metres to each side: (4, 4)."""
    matrix = np.diag([1 / half, 1 / half, -2 / (far - near), 1])
    matrix[2, 3] = -(far + near) / (far - near)
    return matrix
