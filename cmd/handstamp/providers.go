package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/handstamp/handstamp/pkg/upstream"
)

// readProviders reads the list of providers out of a settings file. Unknown keys are refused as everywhere.
func readProviders(content []byte, path string, c *Config) (faults []error) {
	var file struct {
		Providers []upstream.Config    `yaml:"providers"`
		Others    map[string]yaml.Node `yaml:",inline"`
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	err := d.Decode(&file)
	c.Providers = file.Providers
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok { // the rest was read
		for _, text := range typed.Errors {
			faults = append(faults, fmt.Errorf("providers (%s): %s", path, inPlainWords(text)))
		}
	} else if err != nil {
		return []error{fmt.Errorf("providers (%s): %w", path, err)}
	}
	for i := range c.Providers {
		c.secretsInFile = c.secretsInFile || c.Providers[i].ClientSecret != "" || c.Providers[i].Apple.PrivateKey != ""
		faults = append(faults, c.Providers[i].ReadFiles())
	}
	return append(faults, upstream.Validate(c.Providers))
}

// inPlainWords says without Go's types what the decoder says: "line 4: field x not found in type upstream.Config", or
// "line 4: cannot unmarshal !!str `x` into bool".
func inPlainWords(text string) string {
	text = regexp.MustCompile(`field (\S+) not found in type \S+`).ReplaceAllString(text, "a provider has no setting $1")
	return regexp.MustCompile("cannot unmarshal !!(\\w+)( `[^`]*`)? into (\\S+)").ReplaceAllStringFunc(text, func(s string) string {
		switch into := s[strings.LastIndex(s, " ")+1:]; {
		case strings.HasSuffix(into, "bool"):
			return "must be true or false"
		case strings.HasPrefix(into, "[]upstream"):
			return "must be a list of providers, each with a dash before it"
		case strings.HasPrefix(into, "[]"):
			return "must be a list of texts"
		case strings.HasPrefix(into, "upstream"):
			return "must be settings below each other, as NAME: VALUE"
		}
		return "must be a text"
	})
}

// printedProviders are the providers as a settings file has them, without their secrets and without what is not set.
func printedProviders(c Config) (*yaml.Node, error) {
	providers := slices.Clone(c.Providers)
	for i := range providers { // the place of a secret is none
		if providers[i].ClientSecretFile != "" {
			providers[i].ClientSecret = ""
		}
		if providers[i].Apple.PrivateKeyFile != "" {
			providers[i].Apple.PrivateKey = ""
		}
	}
	text, err := yaml.Marshal(providers) //nolint:gosec // a seal.Secret is printed as [redacted]
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return nil, err
	}
	withoutEmpty(&node)
	return node.Content[0], nil
}

// withoutEmpty removes the members of mappings that hold nothing, and reports whether a node holds nothing.
func withoutEmpty(n *yaml.Node) (empty bool) {
	switch n.Kind {
	case yaml.MappingNode:
		kept := n.Content[:0]
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !withoutEmpty(n.Content[i+1]) {
				kept = append(kept, n.Content[i], n.Content[i+1])
			}
		}
		n.Content = kept
		return len(kept) == 0
	case yaml.ScalarNode:
		return n.Value == "" || n.Tag == "!!null" || n.Value == "false" && n.Tag == "!!bool"
	case yaml.AliasNode: // the encoder writes none
	case yaml.SequenceNode, yaml.DocumentNode:
		for _, item := range n.Content {
			withoutEmpty(item)
		}
		return len(n.Content) == 0
	}
	return false
}
