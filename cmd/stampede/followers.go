package main

import "github.com/spf13/cobra"

func newFollowersCommand() *cobra.Command { return &cobra.Command{Use: "followers"} }
