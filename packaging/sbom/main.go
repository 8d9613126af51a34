// Sbom prints a bill of materials in the SPDX 2.3 JSON format: the release's files with
// their SHA-256 checksums, and the Go modules that the commands are linked from, as the
// commands themselves name them.
//
// Usage: sbom VERSION SECONDS COMMAND... -- FILE...
//
// SECONDS is the time of the document, from 1970 on. The same arguments and files give the
// same bytes. It knows nothing of how packages are made.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// A document is the part of SPDX 2.3 that is used here. The names are those of the
// specification.
type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creation       `json:"creationInfo"`
	Packages          []component    `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type component struct {
	SPDXID           string      `json:"SPDXID"`
	Name             string      `json:"name"`
	VersionInfo      string      `json:"versionInfo"`
	PackageFileName  string      `json:"packageFileName,omitempty"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	LicenseConcluded string      `json:"licenseConcluded"`
	LicenseDeclared  string      `json:"licenseDeclared"`
	CopyrightText    string      `json:"copyrightText"`
	Checksums        []checksum  `json:"checksums,omitempty"`
	ExternalRefs     []reference `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// run prints the document for the arguments.
func run(args []string, out io.Writer) error {
	end := slices.Index(args, "--")
	if end < 3 || end == len(args)-1 {
		return fmt.Errorf("the arguments are VERSION SECONDS COMMAND... -- FILE, one or more")
	}
	version := args[0]
	seconds, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	modules, err := modulesOf(args[2:end])
	if err != nil {
		return err
	}
	const self = "SPDXRef-DOCUMENT"
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: self, Name: "blcr-cli-" + version,
		CreationInfo: creation{time.Unix(seconds, 0).UTC().Format(time.RFC3339), []string{"Tool: blcr-cli-packaging-sbom"}},
	}
	all := sha256.New()
	for _, name := range args[end+1:] {
		sum, err := sumOf(name)
		if err != nil {
			return err
		}
		fmt.Fprintln(all, sum, filepath.Base(name))
		c := newComponent(filepath.Base(name), version, "MIT")
		c.PackageFileName, c.Checksums = c.Name, []checksum{{"SHA256", sum}}
		d.Packages = append(d.Packages, c)
		d.Relationships = append(d.Relationships, relationship{self, "DESCRIBES", c.SPDXID})
		for _, m := range modules {
			d.Relationships = append(d.Relationships, relationship{c.SPDXID, "CONTAINS", m.SPDXID})
		}
	}
	d.Packages = append(d.Packages, modules...)
	// It has to be unique and need not lead anywhere.
	d.DocumentNamespace = fmt.Sprintf("urn:sha256:%x", all.Sum(nil))
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(d)
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func newComponent(name, version, licence string) component {
	return component{
		SPDXID: "SPDXRef-" + notInID.ReplaceAllString(name+"-"+version, "-"),
		Name:   name, VersionInfo: version, DownloadLocation: "NOASSERTION",
		LicenseConcluded: "NOASSERTION", LicenseDeclared: licence, CopyrightText: "NOASSERTION",
	}
}

// modulesOf returns the modules that the commands are linked from, and Go itself, in the
// order of their names.
func modulesOf(commands []string) ([]component, error) {
	found := make(map[string]component)
	add := func(name, version string) {
		c := newComponent(name, version, "NOASSERTION")
		c.ExternalRefs = []reference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + name + "@" + version}}
		found[c.SPDXID] = c
	}
	for _, name := range commands {
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			return nil, err
		}
		add("stdlib", info.GoVersion)
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			add(m.Path, m.Version)
		}
	}
	modules := make([]component, 0, len(found))
	for _, c := range found {
		modules = append(modules, c)
	}
	slices.SortFunc(modules, func(a, b component) int {
		if a.SPDXID < b.SPDXID {
			return -1
		}
		return 1
	})
	return modules, nil
}

// sumOf returns the SHA-256 checksum of a file.
func sumOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
