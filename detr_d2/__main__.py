"""`python -m detr_d2 COMMAND`, where no script `detr-d2` is on the path."""

from .cli import main

if __name__ == "__main__":
    main()
