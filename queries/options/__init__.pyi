from .methods import OptionMethods as OptionMethods
