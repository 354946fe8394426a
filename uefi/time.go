package uefi

import (
	"cmp"
	"time"

	"github.com/assay-project/assay/wire"
)

// Time is an EFI_TIME (UEFI 2.10, 8.3) as variables carry it.
type Time struct {
	Year                             uint16
	Month, Day, Hour, Minute, Second uint8
	Pad1                             uint8
	Nanosecond                       uint32
	TimeZone                         uint16 // of a signed number of minutes
	Daylight, Pad2                   uint8
}

// TimeSize is the size of an EFI_TIME.
const TimeSize = 16

// Wire lays out an EFI_TIME.
func (t *Time) Wire(c *wire.Codec) {
	wire.U16(c, &t.Year)
	wire.U8(c, &t.Month)
	wire.U8(c, &t.Day)
	wire.U8(c, &t.Hour)
	wire.U8(c, &t.Minute)
	wire.U8(c, &t.Second)
	wire.U8(c, &t.Pad1)
	wire.U32(c, &t.Nanosecond)
	wire.U16(c, &t.TimeZone)
	wire.U8(c, &t.Daylight)
	wire.U8(c, &t.Pad2)
}

// NewTime is t as the time of an authenticated variable: in UTC, to the second.
func NewTime(t time.Time) Time {
	t = t.UTC()
	return Time{
		Year: uint16(t.Year()), Month: uint8(t.Month()), Day: uint8(t.Day()),
		Hour: uint8(t.Hour()), Minute: uint8(t.Minute()), Second: uint8(t.Second()),
	}
}

// IsZero reports whether no time is set.
func (t Time) IsZero() bool { return t == Time{} }

// Bare reports whether all members are zero that are zero in the time of an
// authenticated variable (UEFI 2.10, 8.2.2).
func (t Time) Bare() bool {
	return t.Pad1 == 0 && t.Nanosecond == 0 && t.TimeZone == 0 && t.Daylight == 0 && t.Pad2 == 0
}

// Compare is negative when t is before u, to the second, as firmware compares the
// times of variables.
func (t Time) Compare(u Time) int {
	return cmp.Or(cmp.Compare(t.Year, u.Year), cmp.Compare(t.Month, u.Month), cmp.Compare(t.Day, u.Day),
		cmp.Compare(t.Hour, u.Hour), cmp.Compare(t.Minute, u.Minute), cmp.Compare(t.Second, u.Second))
}

// Time is the point in time in UTC; a month of 13 counts on, as [time.Date] does.
func (t Time) Time() time.Time {
	return time.Date(int(t.Year), time.Month(t.Month), int(t.Day), int(t.Hour), int(t.Minute), int(t.Second), 0, time.UTC)
}
