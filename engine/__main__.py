from engine.cli.root import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
