/**
 * Colour scales. Lightness changes evenly from end to end (in OKLab), so equal steps look equal and
 * the order survives any colour blindness and a grey printer. The low end is nearly the paper: what
 * needs no look has no colour. Text on every step is the darker or lighter ink, whichever reads
 * better; that is always above 4.5 : 1 (tested).
 */
export type Theme = 'light' | 'dark'
export type RampName = 'value' | 'attention'

/** Number of steps of a ramp. */
export const STEPS = 64

export interface Ramp {
  fill: string[]
  ink: string[]
}

export type Lch = [lightness: number, chroma: number, hue: number]

// Control points at even distances; the lightness in them is linear.
const POINTS: Record<RampName, Record<Theme, Lch[]>> = {
  value: {
    light: [
      [0.975, 0.014, 95],
      [0.87, 0.1, 104],
      [0.765, 0.115, 150],
      [0.66, 0.1, 190],
      [0.555, 0.1, 232],
      [0.45, 0.12, 262],
      [0.345, 0.13, 280],
    ],
    dark: [
      [0.235, 0.018, 265],
      [0.345, 0.1, 275],
      [0.455, 0.1, 255],
      [0.565, 0.09, 215],
      [0.675, 0.1, 175],
      [0.785, 0.14, 140],
      [0.895, 0.16, 103],
    ],
  },
  attention: {
    light: [
      [0.98, 0.008, 60],
      [0.87, 0.07, 60],
      [0.76, 0.13, 52],
      [0.65, 0.165, 44],
      [0.54, 0.16, 38],
    ],
    dark: [
      [0.235, 0.012, 50],
      [0.36, 0.07, 45],
      [0.485, 0.12, 44],
      [0.61, 0.155, 48],
      [0.735, 0.15, 58],
    ],
  },
}

type Rgb = [number, number, number]

function toRgb(L: number, a: number, b: number): Rgb {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ]
  return linear.map((x) => {
    const c = x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055
    return Math.round(255 * Math.min(1, Math.max(0, c)))
  }) as Rgb
}

/** Relative luminance of WCAG 2. */
export function luminance([r, g, b]: Rgb): number {
  const f = (c: number): number => (c <= 10.31475 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4)
  return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b)
}

export function contrast(x: Rgb, y: Rgb): number {
  const [a, b] = [luminance(x), luminance(y)].sort((p, q) => q - p)
  return (a + 0.05) / (b + 0.05)
}

export const parseHex = (s: string): Rgb =>
  [1, 3, 5].map((i) => parseInt(s.slice(i, i + 2), 16)) as Rgb

const toHex = (c: Rgb): string => '#' + c.map((x) => x.toString(16).padStart(2, '0')).join('')

const DARK_INK = '#000000'
const LIGHT_INK = '#ffffff'

/** A ramp through control points at even distances. */
export function build(points: Lch[]): Ramp {
  const lab = points.map(([L, c, h]) => {
    const rad = (h * Math.PI) / 180
    return [L, c * Math.cos(rad), c * Math.sin(rad)]
  })
  const ramp: Ramp = { fill: [], ink: [] }
  for (let i = 0; i < STEPS; i++) {
    const x = (i / (STEPS - 1)) * (lab.length - 1)
    const j = Math.min(lab.length - 2, Math.floor(x))
    const mix = [0, 1, 2].map((c) => lab[j][c] + (x - j) * (lab[j + 1][c] - lab[j][c]))
    const rgb = toRgb(mix[0], mix[1], mix[2])
    const dark = contrast(rgb, parseHex(DARK_INK)) >= contrast(rgb, parseHex(LIGHT_INK))
    ramp.fill.push(toHex(rgb))
    ramp.ink.push(dark ? DARK_INK : LIGHT_INK)
  }
  return ramp
}

const built = new Map<string, Ramp>()

export function ramp(name: RampName, theme: Theme): Ramp {
  const key = `${name} ${theme}`
  let r = built.get(key)
  if (!r) {
    r = build(POINTS[name][theme])
    built.set(key, r)
  }
  return r
}

/**
 * Step of a place on the scale, -1 for none. The strong end is always the one worth a look:
 * where high is confident (a probability), the scale runs the other way.
 */
export function step(place: number, better: 'low' | 'high' | 'none'): number {
  if (Number.isNaN(place)) return -1
  return Math.round((better === 'high' ? 1 - place : place) * (STEPS - 1))
}
