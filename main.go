// Command ocbackup backs up and restores OpenCloud.
package main

import (
	"os"

	"github.com/ocbackup/ocbackup/commands"
)

func main() { os.Exit(commands.Main(os.Args)) }
