"""How rendered people are coloured and lit, in OpenGL's shading language.

Colours are painted by place in the mean person at rest ("canonical", metres), so that a brow stays a brow in every
face and in every expression, without a texture of anybody. Only lips and the inside of the mouth come from masks.

Triangles are smaller than what a software renderer shades at once. So they are drawn to three pictures of numbers
(`PLACES`: what is seen, and where), and every pixel is then painted once, from these (`PAINT`): five times as fast.
"""

VERTEX = """
#version 330
in vec3 position, normal, canonical;
in float part, lips, mouth, scalp, thickness;
uniform mat4 view;
uniform float layer;    // of the hair: 0 is the skin, 1 the tips
out vec3 n, c, at;
flat out int kind;
out float lip, inside, grown;
void main() {
    at = position + normal * (layer * thickness);
    gl_Position = view * vec4(at, 1.0);
    n = normal; c = canonical + normal * (layer * thickness * 0.6);
    lip = lips; inside = mouth; grown = scalp; kind = int(part + 0.5);
}
"""

NOISE = """
float hash(vec3 p) { p = fract(p * 0.1031); p += dot(p, p.zyx + 31.32); return fract((p.x + p.y) * p.z); }

float noise(vec3 p) {
    vec3 i = floor(p), f = fract(p); f = f * f * (3.0 - 2.0 * f);
    vec2 d = vec2(0, 1);
    return mix(mix(mix(hash(i), hash(i + d.yxx), f.x), mix(hash(i + d.xyx), hash(i + d.yyx), f.x), f.y),
               mix(mix(hash(i + d.xxy), hash(i + d.yxy), f.x), mix(hash(i + d.xyy), hash(i + d.yyy), f.x), f.y), f.z);
}
"""

PLACES = (
    "#version 330"
    + NOISE
    + """
in vec3 n, c, at;
flat in int kind;
in float lip, inside, grown;
uniform float layer, grain, hair_end, neckline;
layout(location = 0) out vec4 place;    // canonical; what is drawn (7: hair of the scalp) + how far inside the mouth
layout(location = 1) out vec4 facing;   // normal; lip or strand
layout(location = 2) out vec4 spot;     // position; height above the hairline, or layer
void main() {
    float x = abs(c.x), what = kind, first = lip, second = grown;
    if (layer > 0.0) {
        if (grown < 0.0) discard;
        float strand = noise(c * vec3(grain, grain, grain * 0.7));
        if (strand < layer * 0.66) discard;
        what = 7.0; first = strand; second = layer;
    } else if (kind == 0) {
        what = 0.99 * inside;
    } else if (kind == 5) {
        first = noise(vec3(c.xy, c.z * 0.12) * 330.0);
        if (c.z < hair_end + 0.012 * (first - 0.5) || (c.y < -0.085 && c.z < 0.80 && x < 0.055)) discard;
    } else if (kind == 6) {
        second = 0.612 - 0.045 * neckline * smoothstep(0.09, 0.0, x) - 0.12 * x - c.z;    // below the collar
        if (second < 0.0) discard;
    }
    place = vec4(c, what);
    facing = vec4(gl_FrontFacing ? n : -n, first);
    spot = vec4(at, second);
}
"""
)

PAINT = (
    "#version 330"
    + NOISE
    + """
const float SHOE = -0.80, WAIST = 0.09;    // heights in the mean person
in vec2 uv;
uniform sampler2D places, facings, spots;
uniform sampler2DShadow shadow_map;
uniform mat4 sun;
uniform vec3 eye_at, light, light_colour, ambient_sky, ambient_ground;
uniform vec3 skin, lips_colour, iris, hair, clothes, trim, trousers, shoes, high, low;
uniform float freckles, brow, brow_height, bald, beard, pattern;
out vec4 colour;

// `deep` is how much of the light still comes where the lamp does not: skin glows red, cloth is black.
vec3 lit(vec3 albedo, vec3 at, vec3 normal, float gloss, float rough, float wrap, vec3 deep) {
    vec3 view = normalize(eye_at - at), s = (sun * vec4(at + normal * 0.004, 1.0)).xyz * 0.5 + 0.5;
    s.z -= 0.002;
    float lamp = 0.25 * (texture(shadow_map, s + vec3(-0.003, -0.002, 0))
                       + texture(shadow_map, s + vec3(0.003, 0.002, 0))
                       + texture(shadow_map, s + vec3(-0.002, 0.003, 0))
                       + texture(shadow_map, s + vec3(0.002, -0.003, 0)));
    float diffuse = max((dot(normal, light) + wrap) / (1.0 + wrap), 0.0);
    float shine = gloss * lamp * pow(max(dot(normal, normalize(light + view)), 0.0), rough);
    float edge = 1.0 - max(dot(normal, view), 0.0);
    vec3 ambient = mix(ambient_ground, ambient_sky, 0.5 + 0.5 * normal.z);
    return albedo * (diffuse * mix(deep, vec3(1.0), lamp) * light_colour + ambient)
                + light_colour * shine * 0.5 + ambient_sky * edge * edge * edge * 0.06;
}

float beard_here(vec3 p, float x) {    // 1 where it grows; beard is an index into BEARDS
    float moustache = smoothstep(0.030, 0.024, x) * smoothstep(0.666, 0.669, p.z) *
                      smoothstep(0.685, 0.681, p.z + 0.2 * x) * step(p.y, -0.12);
    float chin = smoothstep(0.026, 0.018, x) * smoothstep(0.652, 0.646, p.z) * smoothstep(0.600, 0.612, p.z) *
                 step(p.y, -0.09);
    float jaw = smoothstep(0.690, 0.672, p.z - 0.55 * max(x - 0.035, 0.0)) * smoothstep(0.605, 0.620, p.z + 0.2 * x)
              * smoothstep(-0.045, -0.055, p.y);
    jaw *= 1.0 - smoothstep(0.030, 0.024, x) * smoothstep(0.646, 0.652, p.z) * step(p.y, -0.125);
    if (beard < 1.5) return 0.45 * max(jaw, moustache);
    if (beard < 2.5) return moustache;
    if (beard < 3.5) return max(moustache, chin);
    return max(max(jaw, moustache), chin);
}

vec4 skin_here(vec3 p, float x, float lip, float inside, float grown) {
    vec3 albedo = skin;
    float gloss = 0.16;
    if (p.y < -0.06) {    // the face
        float cheek = exp(-pow(length(vec2(x - 0.042, p.z - 0.692)) / 0.02, 2.0));
        float nose = exp(-pow(length(vec2(x, p.z - 0.692)) / 0.014, 2.0)) * step(p.y, -0.14);
        albedo *= mix(vec3(1), vec3(1.04, 0.80, 0.78), 0.6 * max(cheek, nose));
        if (freckles > 0.0)
            albedo *= 1.0 - 0.45 * freckles * smoothstep(0.62, 0.75, noise(p * 420.0)) *
                      smoothstep(0.66, 0.69, p.z) * smoothstep(0.735, 0.71, p.z);
        albedo *= 1.0 - 0.15 * exp(-pow(length(vec2((x - 0.031) / 1.5, p.z - 0.731)) / 0.010, 2.0));
        albedo = mix(albedo, lips_colour, smoothstep(0.25, 0.75, lip));
        float along = (x - 0.012) / 0.040;    // a brow: 0 at its inner end, 1 at the outer
        float middle = 0.7465 + 0.0022 * brow_height + 0.010 * along - 0.011 * along * along;
        float thick = 0.0042 * brow * (1.1 - 0.65 * along);
        float hairs = smoothstep(thick, thick * 0.55, abs(p.z - middle)) * smoothstep(-0.03, 0.06, along) *
                      smoothstep(1.04, 0.95, along);
        albedo = mix(albedo, hair * 0.5, 0.92 * hairs);
        gloss = mix(gloss, 0.5, lip);
        if (beard > 0.5) {
            float growth = beard_here(p, x) * (1.0 - smoothstep(0.25, 0.6, lip)) * (1.0 - inside);
            albedo = mix(albedo, hair * (0.55 + 0.45 * noise(p * 500.0)), 0.9 * growth);
            gloss *= 1.0 - growth;
        }
        albedo *= 1.0 - 0.85 * inside * (1.0 - lip);
    }
    float scalp = smoothstep(-0.003, 0.003, grown) * mix(0.95, 0.2, bald);
    return vec4(mix(albedo, hair * 0.5, scalp), gloss * (1.0 - 0.7 * scalp * (1.0 - bald)));
}

vec3 wall() {
    float t = 0.5 + 0.5 * uv.y;
    if (pattern > 0.75) t = smoothstep(1.5, 0.2, length(uv - vec2(2.4 * (pattern - 0.875), 0.2)));
    else if (pattern > 0.5) t = 0.5 + 0.5 * uv.x;
    else if (pattern > 0.3) t = step(0.2 + 2.0 * (pattern - 0.4), uv.y);
    else if (pattern > 0.2) t = smoothstep(-0.1, 0.1, sin(uv.x * 9.0 + 40.0 * pattern));
    return mix(low, high, t);
}

vec3 painted(vec4 place, vec4 facing, vec4 spot) {
    vec3 p = place.xyz, normal = normalize(facing.xyz), at = spot.xyz;
    float x = abs(p.x), strand = facing.w;
    int kind = int(place.w);
    if (kind == 0) {
        if (p.z < SHOE) return lit(shoes, at, normal, 0.2, 20.0, 0.1, vec3(0.3));
        vec4 skin = skin_here(p, x, facing.w, fract(place.w), spot.w);
        return lit(skin.rgb, at, normal, skin.a, 24.0, 0.25, vec3(0.55, 0.38, 0.34));
    }
    if (kind == 1) {
        float r = length(vec2(x - 0.0312, p.z - 0.7284));
        vec3 albedo = vec3(0.86, 0.84, 0.82) * smoothstep(0.0175, 0.009, r);
        if (p.y < -0.12) {
            albedo = mix(albedo, iris * (0.7 + 40.0 * r), smoothstep(0.0072, 0.0064, r));
            albedo = mix(albedo, vec3(0.008), smoothstep(0.0032, 0.0026, r));
        }
        return lit(albedo, at, normal, 1.2, 90.0, 0.2, vec3(0.5));
    }
    if (kind == 2) return lit(vec3(0.80, 0.76, 0.68) * smoothstep(-0.115, -0.14, p.y), at, normal, 0.3, 30.0, 0.2,
                              vec3(0.4));
    if (kind == 3) return lit(vec3(0.55, 0.17, 0.17), at, normal, 0.3, 20.0, 0.2, vec3(0.4));
    if (kind == 4) return hair * 0.1;
    if (kind == 5) return lit(hair * (0.6 + 0.6 * strand), at, normal, 0.25, 14.0, 0.1, vec3(0.3));
    if (kind == 6) {
        vec3 worn = p.z < SHOE ? shoes : p.z < WAIST ? trousers : mix(clothes, trim, smoothstep(0.010, 0.008, spot.w));
        return lit(worn, at, normal, 0.03, 10.0, 0.1, vec3(0.3));
    }
    return lit(hair * (0.45 + 0.75 * strand) * (0.55 + 0.45 * spot.w), at, normal, 0.12, 10.0, 0.15, vec3(0.3));
}

void main() {
    ivec2 pixel = ivec2(gl_FragCoord.xy);
    vec4 place = texelFetch(places, pixel, 0);
    vec3 seen = place.w < 0.0 ? wall()
              : painted(place, texelFetch(facings, pixel, 0), texelFetch(spots, pixel, 0));
    colour = vec4(pow(clamp(seen, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
}
"""
)

CAST = """
#version 330
in vec3 c;
flat in int kind;
uniform float hair_end;
void main() {
    if (kind == 6 || kind == 4) discard;
    if (kind == 5 && (c.z < hair_end || (c.y < -0.085 && c.z < 0.80 && abs(c.x) < 0.055))) discard;
}
"""

SCREEN = """
#version 330
in vec2 corner;
out vec2 uv;
void main() { gl_Position = vec4(corner, 0.0, 1.0); uv = corner; }
"""
