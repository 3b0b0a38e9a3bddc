// Package provider knows what the answers of each upstream mean: which class a status,
// an error type and a message belong to, which limit refused, what the upstream then
// counted against the caller's quota, how long it asks to wait, and how its limits stand.
//
// What one upstream says is data, a [Profile]; what is done with it is code shared by
// all. [Profile.Read] reads an [Answer] into a [Reading], and [Profile.Outcome] puts it in
// the core's terms. The package is pure: no clock, no I/O, standard library only.
//
// Nothing in an answer is believed beyond bounds: waits, dates, counts and texts are
// clamped or ignored, and the Reading says so ([Oddities]), so that it can be counted.
package provider
