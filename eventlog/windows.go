package eventlog

// wbclMarker is the data of the separator that Windows puts into PCR 12, 13 and
// 14 when it has no more to measure.
const wbclMarker = "WBCL"

// sipaContainer is SIPAEVENTTYPE_CONTAINER, the class of the outer tags of
// Windows; the aggregation flag 0x40000000 is masked out of a tag before comparing.
const sipaContainer = 0x00010000
