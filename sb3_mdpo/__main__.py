"""``python -m sb3_mdpo ...`` is ``sb3-mdpo ...``."""

from sb3_mdpo.cli.main import main

if __name__ == "__main__":
    main()
