//go:build !amd64 || purego

package fermat

func available() bool { return false }

func multiply(*batch, *[maxLimbs]limb, int, int) { panic("unreachable: no size fits") }
