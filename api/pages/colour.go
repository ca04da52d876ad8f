package pages

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// colour is an opaque sRGB colour.
type colour struct{ r, g, b uint8 }

func black() colour { return colour{} }
func white() colour { return colour{255, 255, 255} }

func (c colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c.r, c.g, c.b) }

func parseColour(s string) (colour, error) {
	digits, ok := strings.CutPrefix(s, "#")
	n, err := strconv.ParseUint(digits, 16, 32)
	if !ok || len(digits) != 6 || err != nil {
		return colour{}, fmt.Errorf("colour %q: want #rrggbb", s)
	}
	return colour{uint8(n >> 16), uint8(n >> 8), uint8(n)}, nil //nolint:gosec // six hexadecimal digits
}

// mix returns c with the given share (0 to 1) of another colour.
func (c colour) mix(other colour, share float64) colour {
	part := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + (float64(b)-float64(a))*share)) }
	return colour{part(c.r, other.r), part(c.g, other.g), part(c.b, other.b)}
}

// luminance is the relative luminance of WCAG 2.2.
func (c colour) luminance() float64 {
	linear := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.r) + 0.7152*linear(c.g) + 0.0722*linear(c.b)
}

// contrast is the contrast ratio of WCAG 2.2, from 1 to 21.
func contrast(a, b colour) float64 {
	la, lb := a.luminance(), b.luminance()
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// legible moves c towards another colour until it can be read on the page, on the card, and on a tint of itself on the card.
func (c colour) legible(towards, page, card colour, share float64) colour {
	const steps = 50
	for i := range steps {
		moved := c.mix(towards, float64(i)/steps)
		if min(contrast(moved, page), contrast(moved, card), contrast(moved, card.mix(moved, share))) >= legibleRatio {
			return moved
		}
	}
	return towards
}

// palette holds the custom properties of one scheme. style.css knows no other colours.
type palette struct {
	page, card         colour // the ground, and the sheet on it
	text, muted        colour
	line               colour // separators, which carry no meaning
	field, fieldLine   colour // inputs; their border is what makes them visible
	accent, onAccent   colour // buttons, links, focus; text on it
	accentHover        colour
	tint               colour // quiet ground in the accent's hue
	danger, dangerTint colour
}

// String returns the declarations for a style sheet.
func (p palette) String() string {
	return fmt.Sprintf("--page:%s;--card:%s;--text:%s;--muted:%s;--line:%s;--field:%s;--field-line:%s;"+
		"--accent:%s;--on-accent:%s;--accent-hover:%s;--tint:%s;--danger:%s;--danger-tint:%s",
		p.page, p.card, p.text, p.muted, p.line, p.field, p.fieldLine,
		p.accent, p.onAccent, p.accentHover, p.tint, p.danger, p.dangerTint)
}

// Paper and stamping ink.
func lightPalette(accent colour) palette {
	p := palette{
		page: colour{0xf4, 0xf4, 0xf1}, card: white(),
		text: colour{0x17, 0x1c, 0x1a}, muted: colour{0x5a, 0x63, 0x5f},
		line:  colour{0xe2, 0xe4, 0xe0},
		field: white(), fieldLine: colour{0x86, 0x8f, 0x8a},
		onAccent: white(),
		danger:   colour{0xb0, 0x23, 0x1c}, dangerTint: colour{0xfd, 0xf0, 0xee},
	}
	const share = 0.08
	p.accent = accent.legible(black(), p.page, p.card, share)
	p.tint = p.card.mix(p.accent, share)
	p.accentHover = p.accent.mix(black(), 0.16)
	return p
}

func darkPalette(accent colour) palette {
	p := palette{
		page: colour{0x0d, 0x10, 0x0f}, card: colour{0x16, 0x1a, 0x19},
		text: colour{0xec, 0xf0, 0xee}, muted: colour{0xa2, 0xac, 0xa8},
		line:  colour{0x2a, 0x30, 0x2e},
		field: colour{0x10, 0x14, 0x13}, fieldLine: colour{0x69, 0x74, 0x70},
		onAccent: colour{0x0d, 0x10, 0x0f},
		danger:   colour{0xff, 0xab, 0xa0}, dangerTint: colour{0x33, 0x1b, 0x19},
	}
	const share = 0.1
	p.accent = accent.legible(white(), p.page, p.card, share)
	p.tint = p.card.mix(p.accent, share)
	p.accentHover = p.accent.mix(white(), 0.2)
	return p
}

// accents reads the operator's two colours, either of which stands in for the other.
func accents(light, dark string) (l, d colour, err error) {
	if light == "" && dark == "" {
		return colour{0x0b, 0x68, 0x5c}, colour{0x57, 0xcf, 0xb8}, nil
	}
	if light == "" {
		light = dark
	}
	if dark == "" {
		dark = light
	}
	if l, err = parseColour(light); err != nil {
		return colour{}, colour{}, err
	}
	if d, err = parseColour(dark); err != nil {
		return colour{}, colour{}, err
	}
	return l, d, nil
}
