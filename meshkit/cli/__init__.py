"""The command `meshkit`: one module per group of subcommands, over the public interface."""
