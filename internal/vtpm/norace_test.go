//go:build !race

package vtpm

const raceEnabled = false
