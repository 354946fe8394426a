package program

import (
	"crypto/fips140"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the release; the linker sets it (-X) in a release build.
var version = "0.1.0-dev"

// versionInfo is the JSON of version -o json.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	// FIPS140 is the validated Go Cryptographic Module that was built in, "" for none.
	FIPS140 string `json:"fips140"`
	// FIPS140Enabled tells whether the module runs in FIPS mode now.
	FIPS140Enabled bool `json:"fips140Enabled"`
}

// Version is the release that this program is built from.
func Version() string { return version }

func readVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, FIPS140Enabled: fips140.Enabled()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "GOFIPS140":
			v.FIPS140 = s.Value
		}
	}
	return v
}

// NewVersionCmd is "version".
func NewVersionCmd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which build this is, and with which cryptographic module",
		Args:  cobra.NoArgs,
	}
	format := AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := readVersion()
		if *format == "json" {
			return PrintJSON(env, v)
		}
		module := "standard library"
		if v.FIPS140 != "" {
			module = "FIPS 140-3 module " + v.FIPS140
		}
		_, err := fmt.Fprintf(env.Stdout, "%s %s (%s %s/%s, %s)\n", cmd.Root().Name(), v.Version, v.Go, v.OS, v.Arch, module)
		return err
	}
	return cmd
}
